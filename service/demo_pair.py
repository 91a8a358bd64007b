"""A real brain and the same brain deformed in a way that we know: the pair of `warpline demo`.

Fixed is the MNI152 template that nilearn carries. Moving is that template pulled through a random
diffeomorphism and a rotation with a shift, onto an oblique, anisotropic grid of another
orientation, with dark and bright swapped, a bias field and noise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import MissingExtraError
from service.registration.fields import Affine, DisplacementField, VelocityField
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.resample import downsample, integrate, warp, warp_labels
from service.registration.volume import Volume

SEED = 152
GREY, WHITE = 1, 2
POINTS = 500
# The deformation: waves of two widths, the largest displacement about 12 mm.
WAVES_MM = ((30.0, 17.0), (14.0, 5.0))  # Gaussian width, typical largest displacement
FLOW_SPACING_MM = 4.0
FADING_MM = 40.0
TURN_DEGREES, SHIFT_MM = (6.0, -5.0, 9.0), (9.0, -7.0, 6.0)
# The moving grid: i to the left, j to the feet, k to the back, tilted.
AXES = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])
TILT_DEGREES = (7.0, 4.0, -5.0)
MOVING_SPACING_MM = (1.1, 1.0, 1.4)
NOISE, BIAS, BIAS_WIDTH_MM = 0.02, 0.2, 60.0
QUICK_SPACING_MM = 2.0


@dataclass(frozen=True)
class Pair:
    """The images, their grey (1) and white matter (2), and points that belong together."""

    fixed: Volume
    fixed_labels: Volume
    moving: Volume
    moving_labels: Volume
    fixed_points: WorldPoints
    moving_points: WorldPoints

    def write(self, folder: Path) -> dict[str, Path]:
        """Write every file of the pair; returns them by role."""
        volumes = {
            "fixed": self.fixed,
            "moving": self.moving,
            "fixed_labels": self.fixed_labels,
            "moving_labels": self.moving_labels,
        }
        points = {"fixed_points": self.fixed_points, "moving_points": self.moving_points}
        files = {role: folder / f"{role}.nii.gz" for role in volumes}
        files |= {role: folder / f"{role}.csv" for role in points}
        for role, volume in volumes.items():
            write_volume(files[role], volume)
        for role, some in points.items():
            write_points(files[role], some)
        return files


def make_pair(*, is_quick: bool = False) -> Pair:
    """Make the pair; the same one each time.

    Raises:
        MissingExtraError: If nilearn is not installed.
    """
    rng = np.random.default_rng(SEED)
    brain, labels = template()
    if is_quick:
        grid = brain.grid.resampled(QUICK_SPACING_MM)
        brain, labels = downsample(brain, grid), warp_labels(labels, DisplacementField.zero(grid))
    turn = _rigid(TURN_DEGREES, SHIFT_MM, brain.grid.centre_mm)
    grid = _moving_grid(brain.grid, turn.inverse(), 2.0 if is_quick else 1.0)
    flow = random_flow(grid, rng)
    moving_labels = warp_labels(labels, flow, grid, affine=turn)
    recoloured = brain.with_data(_other_contrast(brain.data))
    pulled = warp(recoloured, flow, grid, affine=turn)
    there = _brain_points(moving_labels, rng)
    here = WorldPoints(turn.move(flow.move(there.positions_mm)))
    return Pair(brain, labels, _scanned(pulled, rng), moving_labels, here, there)


def template() -> tuple[Volume, Volume]:
    """The MNI152 T1 template, brain only, and its grey and white matter as a label map."""
    try:
        from nilearn.datasets import (
            load_mni152_gm_template,
            load_mni152_template,
            load_mni152_wm_template,
        )
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'The demo\'s brain comes with nilearn: pip install "warpline[demo]".'
        ) from error
    brain = _volume(load_mni152_template(resolution=1))
    grey = _volume(load_mni152_gm_template(resolution=1)).data
    white = _volume(load_mni152_wm_template(resolution=1)).data
    labels = np.zeros(brain.grid.shape, np.uint8)
    labels[(grey > 0.5) & (grey >= white)] = GREY
    labels[(white > 0.5) & (white > grey)] = WHITE
    return brain, brain.with_data(labels)


def _volume(image: Any) -> Volume:
    data = np.ascontiguousarray(image.get_fdata(dtype=np.float32))
    shape = (int(data.shape[0]), int(data.shape[1]), int(data.shape[2]))
    return Volume(data, Grid(shape, np.asarray(image.affine, dtype=np.float64)))


def _rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """Turns about x, then y, then z."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        turned = turn @ turned
    return turned


def _rigid(
    degrees: tuple[float, float, float], shift_mm: tuple[float, float, float], centre: np.ndarray
) -> Affine:
    """A turn about the centre, then a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation(degrees)
    matrix[:3, 3] = centre + shift_mm - matrix[:3, :3] @ centre
    return Affine(matrix)


def _moving_grid(fixed: Grid, to_moving: Affine, coarser: float) -> Grid:
    """A grid of another orientation that covers the same head."""
    spacing_mm = coarser * np.array(MOVING_SPACING_MM)
    axes = _rotation(TILT_DEGREES) @ AXES.T
    extent_mm = np.abs(AXES) @ fixed.extent_mm
    shape = np.ceil(extent_mm / spacing_mm).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    centre = to_moving.move(fixed.centre_mm[None])[0]
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def random_flow(grid: Grid, rng: np.random.Generator) -> DisplacementField:
    """A smooth random diffeomorphism over a grid's field of view, itself on a coarser grid."""
    coarse = grid.resampled(FLOW_SPACING_MM)
    velocity = np.zeros((*coarse.shape, 3), np.float32)
    for width_mm, largest_mm in WAVES_MM:
        for axis in range(3):
            velocity[..., axis] += largest_mm / np.sqrt(3) * _waves(coarse, width_mm, rng)
    return integrate(VelocityField(velocity * _fading(coarse)[..., None], coarse))


def _fading(grid: Grid) -> np.ndarray:
    """1 inside, 0 at the border: a flow that ends in the open would tear there."""
    faded = np.ones(grid.shape, np.float32)
    for axis, (count, step_mm) in enumerate(zip(grid.shape, grid.spacing_mm, strict=True)):
        from_border_mm = np.minimum(np.arange(count), np.arange(count)[::-1]) * step_mm
        ramp = np.sin(np.pi / 2 * np.minimum(1, from_border_mm / FADING_MM)) ** 2
        faded *= ramp.astype(np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
    return faded


def _waves(grid: Grid, width_mm: float, rng: np.random.Generator) -> np.ndarray:
    """White noise smoothed by a Gaussian, scaled to a largest value of 1."""
    noise = np.fft.rfftn(rng.standard_normal(grid.shape))
    spacing = grid.spacing_mm
    frequencies = [
        np.fft.fftfreq(grid.shape[0], spacing[0])[:, None, None],
        np.fft.fftfreq(grid.shape[1], spacing[1])[None, :, None],
        np.fft.rfftfreq(grid.shape[2], spacing[2])[None, None, :],
    ]
    squared = sum(frequency**2 for frequency in frequencies)
    smooth = np.fft.irfftn(
        noise * np.exp(-2 * (np.pi * width_mm) ** 2 * squared), s=grid.shape, axes=(0, 1, 2)
    )
    return np.asarray(smooth / np.abs(smooth).max(), dtype=np.float32)


def _other_contrast(data: np.ndarray) -> np.ndarray:
    """Dark for bright inside the brain, as in a T2-weighted image; the outside stays black."""
    scaled = np.clip(data / np.percentile(data[data > 0], 99.5), 0, 1)
    inside = np.clip(scaled / 0.15, 0, 1)
    return np.asarray(inside * (0.12 + 0.88 * (1 - scaled) ** 1.4), dtype=np.float32)


def _scanned(pulled: Volume, rng: np.random.Generator) -> Volume:
    """A bias field, noise as magnitude images have it, and whole numbers."""
    bias = np.exp(BIAS * _waves(pulled.grid, BIAS_WIDTH_MM, rng))
    real, imaginary = rng.standard_normal((2, *pulled.grid.shape), dtype=np.float32) * NOISE
    magnitude = np.hypot(pulled.data * bias + real, imaginary)
    return pulled.with_data(np.rint(magnitude * 1000).astype(np.int16))


def _brain_points(labels: Volume, rng: np.random.Generator) -> WorldPoints:
    """Places all over grey and white matter, between voxel centres too."""
    voxels = np.argwhere(labels.data > 0)
    chosen = voxels[rng.choice(len(voxels), POINTS, replace=False)]
    return WorldPoints(labels.grid.to_world(chosen + rng.uniform(-0.5, 0.5, chosen.shape)))
