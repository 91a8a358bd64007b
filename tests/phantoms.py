"""Pairs with a known truth, small enough for every test: blobs that a smooth field moved."""

from dataclasses import dataclass

import numpy as np

from service.registration.fields import DisplacementField
from service.registration.grid import Grid
from service.registration.volume import Volume


@dataclass(frozen=True, eq=False)
class PhantomPair:
    """`moving` shows at x + truth(x) what `fixed` shows at x; the labels likewise."""

    fixed: Volume
    moving: Volume
    fixed_labels: Volume
    moving_labels: Volume
    truth: DisplacementField


class Scene:
    """Soft blobs in the world, which can be photographed on any grid."""

    def __init__(self, rng: np.random.Generator, centre_mm: np.ndarray, size_mm: float) -> None:
        count = 60
        self.places = centre_mm + rng.uniform(-0.4, 0.4, (count, 3)) * size_mm
        self.widths = rng.uniform(0.05, 0.14, count) * size_mm
        self.heights = rng.uniform(0.3, 1.0, count)

    def image(self, points_mm: np.ndarray) -> np.ndarray:
        total = np.zeros(points_mm.shape[:-1])
        for place, width, height in zip(self.places, self.widths, self.heights, strict=True):
            square = ((points_mm - place) ** 2).sum(axis=-1)
            total += height * np.exp(-0.5 * square / width**2)
        return total * 1000

    def labels(self, points_mm: np.ndarray) -> np.ndarray:
        return np.digitize(self.image(points_mm), (400.0, 900.0)).astype(np.uint8)


def _centres(grid: Grid) -> np.ndarray:
    return grid.to_world(np.stack(np.indices(grid.shape), axis=-1))


def phantom_pair(fixed_grid: Grid, moving_grid: Grid, most_mm: float, seed: int = 7) -> PhantomPair:
    """A pair on two grids; the moving scene is displaced by up to `most_mm`.

    The moving image at y shows the scene at y - d(y), with d smooth; the truth solves
    x + u(x) = y, that is u(x) = d(x + u(x)), by fixed-point iteration.
    """
    rng = np.random.default_rng(seed)
    size_mm = float(fixed_grid.extent_mm.min())
    scene = Scene(rng, fixed_grid.centre_mm, size_mm)
    waves = rng.normal(size=(3, 3)) * 2 * np.pi / (1.6 * size_mm)
    phases = rng.uniform(0, 2 * np.pi, 3)

    def d(points_mm: np.ndarray) -> np.ndarray:
        return most_mm / np.sqrt(3) * np.sin(points_mm @ waves.T + phases)

    x = _centres(fixed_grid)
    u = np.zeros_like(x)
    for _ in range(50):
        u = d(x + u)
    y = _centres(moving_grid)
    return PhantomPair(
        Volume(scene.image(x).astype(np.float32), fixed_grid),
        Volume(scene.image(y - d(y)).astype(np.float32), moving_grid),
        Volume(scene.labels(x), fixed_grid),
        Volume(scene.labels(y - d(y)), moving_grid),
        DisplacementField(u.astype(np.float32), fixed_grid),
    )
