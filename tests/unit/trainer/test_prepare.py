"""Public landmark sets in the layout of their recipes; against the landmarks themselves."""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the usual name

from service.registration.files.points_file import read_points
from trainer.config import read_config
from trainer.config.recipes import FOLDER
from trainer.data.dataset import check_data
from trainer.recipes.prepare import main


def _checked(recipe: str, prepared: Path) -> None:
    """The recipe takes the data as they lie there."""
    config = read_config([FOLDER / f"{recipe}.yaml"], [f"data.root={prepared}"])
    check_data(config.data)


@pytest.mark.real_data
def test_the_lungs_landmarks_are_those_of_the_table(shared_data, tmp_path):
    source = shared_data / "lung_ct_elastix"
    assert main(["lung", str(source), str(tmp_path)]) == 0
    _checked("lung-points", tmp_path)
    with (source / "pairs_corrected_dev26.csv").open() as file:
        rows = np.array([[float(v) for v in row] for row in list(csv.reader(file))[1:]])
    for split, kept in (("train", [0, 1, 3, 4]), ("test", [2, 5])):
        fixed = read_points(tmp_path / f"{split}_fixed.csv").positions_mm
        moving = read_points(tmp_path / f"{split}_moving.csv").positions_mm
        assert np.allclose(fixed[: len(kept)] * (-1, -1, 1), rows[kept, :3])
        assert np.allclose(moving[: len(kept)] * (-1, -1, 1), rows[kept, 3:])


@pytest.mark.real_data
def test_the_livers_landmarks_lie_in_their_images(shared_data, tmp_path):
    assert main(["liver", str(shared_data / "liver_4dmri_eth"), str(tmp_path)]) == 0
    _checked("liver-grouped", tmp_path)
    for points in (tmp_path / "points").glob("*/*.csv"):
        image = tmp_path / "images" / points.parent.name / f"{points.stem}.nii.gz"
        theirs = sitk.ReadImage(str(image))
        for place in read_points(points).positions_mm * (-1, -1, 1):
            index = theirs.TransformPhysicalPointToContinuousIndex(place.tolist())
            assert all(-0.5 <= i <= n - 0.5 for i, n in zip(index, theirs.GetSize(), strict=True))
    spacings = {
        sitk.ReadImage(str(p)).GetSpacing()[2]
        for p in (tmp_path / "images" / "dataset18").glob("*.nii.gz")
    }
    assert spacings == {4.0}  # one header said 5


def _grey(image: Path, points: Path) -> np.ndarray:
    """Values of an image at points, nearest voxel, NaN outside."""
    theirs, found = sitk.ReadImage(str(image), sitk.sitkFloat32), []
    for place in read_points(points).positions_mm * (-1, -1, 1):
        index = theirs.TransformPhysicalPointToIndex(place.tolist())
        is_inside = all(0 <= i < n for i, n in zip(index, theirs.GetSize(), strict=True))
        found.append(theirs.GetPixel(index) if is_inside else np.nan)
    return np.array(found)


@pytest.mark.real_data
def test_the_visits_show_the_same_at_the_published_places(shared_data, tmp_path):
    """Also where the later one is displaced, which moves its points by centimetres."""
    assert main(["longitudinal", str(shared_data / "brain_ms_longitudinal"), str(tmp_path)]) == 0
    _checked("longitudinal-grouped", tmp_path)
    starts = []
    for group in ("flair", "t1w-0", "t1w-5"):
        images = sorted((tmp_path / "images" / group).glob("*.nii.gz"))
        points = sorted((tmp_path / "points" / group).glob("*.csv"))
        first, second = (_grey(*pair) for pair in zip(images, points, strict=True))
        known = np.isfinite(first) & np.isfinite(second)
        assert known.sum() > 150
        assert np.corrcoef(first[known], second[known])[0, 1] > 0.75
        one, other = (read_points(path).positions_mm for path in points)
        starts.append(np.linalg.norm(one - other, axis=1).mean())
    assert all(5 < start < 30 for start in starts)
    assert len(set(starts)) == 3
