"""Pairs of the sets that `pairs.csv` does not list; what was made for them lies in `made`.

Prostate: gland overlap, and the distance of the other structures' centres. Two visits of a patient
with multiple sclerosis: points of the brain through the affine transforms that were published with
the images. Heart: an echo's frames with leaflets that greedy itself carried over: no truth, but
the best that there is. VoxelMorph's two brains come aligned. Pairs between contrasts have a module
of their own.
"""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from benchmarks.comparison.cases import Case, Landmarks
from benchmarks.comparison.contrast_cases import brain_sine, brain_t2, mr_ct

STEP_MM = 12.0  # between the points of the brain
HEART_SOURCE, HEART_FRAMES = 4, (2, 6)  # from 0; the leaflets were drawn in the source


def prostate(data: Path, made: Path) -> list[Case]:
    """MR to ultrasound, eight patients."""
    return [_gland(case, made) for case in sorted((data / "prostate_mr_trus").glob("case*"))]


def _gland(case: Path, made: Path) -> Case:
    glands, centres = [], []
    for role in ("us", "mr"):
        image = nibabel.load(case / f"{role}_labels.nii.gz")
        labels = np.asanyarray(image.dataobj)
        labels = labels.reshape(*labels.shape[:3], -1)
        glands.append(made / f"{case.name}_{role}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels[..., 0].astype(np.uint8), image.affine), glands[-1])
        centres.append(_centres(labels[..., 1:], image.affine))
    marks = (Landmarks("", *centres),) if len(centres[0]) else ()
    files = case / "us_image.nii.gz", case / "mr_image.nii.gz"
    return Case("prostate_mr_trus", case.name, *files, (glands[0], glands[1]), marks)


def _centres(masks: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Centres of mass of the channels, LPS mm."""
    found = [
        affine[:3] @ (*np.argwhere(mask > 0).mean(axis=0), 1.0) for mask in np.moveaxis(masks, 3, 0)
    ]
    return np.array(found).reshape(-1, 3) * (-1.0, -1.0, 1.0)


def two_visits(data: Path, _made: Path) -> list[Case]:
    """FLAIR to FLAIR, T1 to T1, and T1 to FLAIR, each from the second visit to the first."""
    folder = data / "brain_ms_longitudinal" / "patient01"
    common = _brain_points(folder / "brainmask.nii.gz")
    kinds = (("FLAIR", "FLAIR"), ("T1W", "T1W"), ("FLAIR", "T1W"))
    return [_visits(folder, common, fixed, moving) for fixed, moving in kinds]


def _visits(folder: Path, common: np.ndarray, fixed: str, moving: str) -> Case:
    ends = [_published(folder, n, kind, common) for n, kind in ((1, fixed), (2, moving))]
    files = (folder / f"study{n}_{kind}.nii.gz" for n, kind in ((1, fixed), (2, moving)))
    marks = (Landmarks("", *ends),)
    return Case("brain_ms_longitudinal", f"{fixed}<-{moving}", *files, landmarks=marks)


def _published(folder: Path, visit: int, kind: str, common: np.ndarray) -> np.ndarray:
    """Points of the common space in an image: the transforms map as ITK resamples, backwards."""
    files = [folder / f"study{visit}_FLAIR_to_common_space.txt"]
    if kind != "FLAIR":
        files.append(folder / f"study{visit}_{kind}_intrastudy_to_FLAIR.txt")
    points = common.tolist()
    for file in files:
        transform = SimpleITK.ReadTransform(str(file))
        points = [transform.TransformPoint(point) for point in points]
    return np.array(points)


def _brain_points(mask: Path) -> np.ndarray:
    """A lattice inside the mask, LPS mm."""
    image = SimpleITK.ReadImage(str(mask))
    inside = SimpleITK.GetArrayFromImage(image)
    steps = [max(1, round(STEP_MM / spacing)) for spacing in image.GetSpacing()]
    lattice = np.indices(inside.shape).reshape(3, -1).T[inside.ravel() > 0]
    lattice = lattice[(lattice % steps[::-1] == 0).all(axis=1)]
    return np.array([image.TransformIndexToPhysicalPoint(p[::-1].tolist()) for p in lattice])


def heart(data: Path, made: Path) -> list[Case]:
    """Two frames of an echo from a third."""
    folder = data / "heart_tee_4d"
    series, leaflets = (
        nibabel.load(folder / f"greedy_{name}.nii.gz") for name in ("img4d", "seg4d_resliced")
    )
    images, labels = {}, {}
    for frame in (HEART_SOURCE, *HEART_FRAMES):
        images[frame] = _frame(series, frame, made / f"heart_{frame}.nii.gz", np.float32)
        labels[frame] = _frame(leaflets, frame, made / f"leaflets_{frame}.nii.gz", np.int16)
    return [
        Case(
            "heart_tee_4d",
            f"frame {frame}<-{HEART_SOURCE}",
            images[frame],
            images[HEART_SOURCE],
            (labels[frame], labels[HEART_SOURCE]),
        )
        for frame in HEART_FRAMES
    ]


def _frame(series: nibabel.Nifti1Image, frame: int, path: Path, kind: type) -> Path:
    data = np.asanyarray(series.dataobj)[..., frame].astype(kind)
    nibabel.save(nibabel.Nifti1Image(data, series.affine), path)
    return path


def aligned_brains(data: Path, made: Path) -> list[Case]:
    """VoxelMorph's test brain from another one, both in its space."""
    folder = data / "brain_voxelmorph"
    scan = np.load(folder / "test_scan.npz")
    arrays = {
        "fixed": scan["vol"].astype(np.float32),
        "fixed_labels": scan["seg"].astype(np.int16),
        "moving": np.load(folder / "subject_1_vol.npz")["vol_data"].astype(np.float32),
        "moving_labels": np.load(folder / "subject_1_seg.npz")["vol_data"].astype(np.int16),
    }
    files = {name: made / f"voxelmorph_{name}.nii.gz" for name in arrays}
    for name, path in files.items():
        nibabel.save(nibabel.Nifti1Image(arrays[name], np.eye(4)), path)
    labels = files["fixed_labels"], files["moving_labels"]
    return [Case("brain_voxelmorph", "test<-subject 1", files["fixed"], files["moving"], labels)]


MORE: dict[str, Callable[[Path, Path], list[Case]]] = {
    "prostate_mr_trus": prostate,
    "brain_ms_longitudinal": two_visits,
    "heart_tee_4d": heart,
    "brain_voxelmorph": aligned_brains,
    "mr_ct": mr_ct,
    "brain_t2": brain_t2,
    "brain_sine": brain_sine,
}
