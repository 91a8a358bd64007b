"""Refinement climbs local correlation exactly, recovers a known warp, and never makes it worse."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from service.errors import JobCancelledError
from service.registration.descent import LevelPair, tap_weights
from service.registration.fields import Affine, DisplacementField
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_volume
from service.registration.grid import Grid
from service.registration.initialise import initialise
from service.registration.kernels import descent as kernels
from service.registration.levels import Levels, fixed_levels
from service.registration.pyramid import coarser
from service.registration.refine import (
    BEST,
    FAST,
    Plan,
    climb,
    level_spacings,
    plan_for,
    refine,
)
from service.registration.regularity import regularity
from service.registration.volume import Volume

SHAPE = (40, 36, 33)
MARGIN = kernels.MARGIN
INNER = (slice(MARGIN, -MARGIN),) * 3
FULL_WINDOW = (1.0, 1.0, 1.0)


def texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Blobs of a few voxels: something to hold on to everywhere."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 2.0)
    return np.asarray(noise / noise.std(), dtype=np.float32)


def smooth_displacement(grid: Grid, largest_mm: float) -> np.ndarray:
    """A wave on every axis of the grid, world mm."""
    index = np.indices(grid.shape, dtype=np.float64)
    phase = [2 * np.pi * index[axis] / grid.shape[axis] for axis in range(3)]
    wave = np.stack([np.sin(phase[1]), np.sin(phase[2] + 1.0), np.cos(phase[0])], axis=-1)
    return wave * largest_mm


def warped_pair(grid: Grid, rng: np.random.Generator) -> tuple[Volume, Volume, np.ndarray]:
    """fixed(x) = moving(x + u(x)) by scipy, and u."""
    moving = texture(grid.shape, rng)
    truth_mm = smooth_displacement(grid, 4.0)
    at = grid.to_voxel(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) + truth_mm)
    fixed = ndimage.map_coordinates(moving, np.moveaxis(at, -1, 0), order=1, mode="nearest")
    return Volume(1000 * fixed, grid), Volume(1000 * moving, grid), truth_mm


def box_sum(x: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.uniform_filter(x.astype(np.float64), 5, mode="constant") * 125)


def plain_lncc(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray) -> float:
    """Mean squared local correlation over the mask, as its definition reads."""
    count = np.maximum(box_sum(mask), 1e-9)
    f, w = (box_sum(mask * x) / count for x in (fixed, warped))
    ff, ww = (box_sum(mask * x * x) / count - m * m for x, m in ((fixed, f), (warped, w)))
    fw = box_sum(mask * fixed * warped) / count - f * w
    cc = fw**2 / ((ff + kernels.EPSILON) * (ww + kernels.EPSILON))
    return float((cc * mask).sum() / mask.sum())


class Planes:
    """A padded random pair as the kernels hold it, with a mask that has a hole."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.shape = (19, 17, 22)
        padded = tuple(n + 2 * MARGIN for n in self.shape)
        self.nk = padded[2]
        self.planes = (padded[0], padded[1] * self.nk)
        self.fixed, self.moving = texture(padded, rng), texture(padded, rng)
        self.moving += 0.5 * self.fixed
        self.mask = np.zeros(padded, np.float32)
        self.mask[INNER] = 1
        self.mask[8:12, 5:9, 10:14] = 0
        self.stats, self.sums, self.integrands = (
            np.empty((3, *self.planes), np.float32) for _ in range(3)
        )

    def lncc(self) -> float:
        fixed, mask = self.fixed.reshape(self.planes), self.mask.reshape(self.planes)
        kernels.fixed_statistics(fixed, mask, self.nk, FULL_WINDOW, self.stats, self.sums)
        nothing = np.zeros((3, *self.planes), np.float32)
        self.warped = np.empty(self.planes, np.float32)
        place = (self.nk, (0, 0, 0), FULL_WINDOW)
        images = (fixed * mask, mask)
        kernels.warp_and_sum(self.moving, nothing, place, images, self.warped, self.sums)
        totals = np.zeros(self.planes[0], np.float32)
        kernels.correlation(self.sums, self.stats, self.nk, FULL_WINDOW, self.integrands, totals)
        return float(totals.sum() / mask.sum())

    def force(self) -> np.ndarray:
        """dLNCC/du, not smoothed."""
        self.lncc()
        fixed, mask = self.fixed.reshape(self.planes), self.mask.reshape(self.planes)
        sharp = np.tile(np.array([1, 0, 0], np.float32), (3, 1))
        setting = (np.ones(3, np.float32), sharp, np.ones(3, np.float32))
        out = np.empty((3, *self.planes), np.float32)
        kernels.force((fixed, mask, self.warped), self.integrands, self.nk, setting, out)
        return 2 * out.reshape(3, *self.fixed.shape) / mask.sum()


def test_local_correlation_is_what_scipy_box_filters_give(rng: np.random.Generator) -> None:
    planes = Planes(rng)
    expected = plain_lncc(planes.fixed, planes.moving, planes.mask)
    assert planes.lncc() == pytest.approx(expected, rel=1e-4)


def test_the_force_is_the_slope_of_local_correlation(rng: np.random.Generator) -> None:
    """Against central differences of the plain definition, in random directions."""
    planes = Planes(rng)
    force = planes.force().astype(np.float64)
    gradient = np.stack(np.gradient(planes.moving.astype(np.float64)))
    for _ in range(5):
        direction = np.stack([texture(planes.fixed.shape, rng) for _ in range(3)])
        change = (direction * gradient).sum(axis=0)
        step = 1e-4
        ahead, behind = (
            plain_lncc(planes.fixed, planes.moving + sign * step * change, planes.mask)
            for sign in (1, -1)
        )
        assert (force * direction).sum() == pytest.approx((ahead - behind) / (2 * step), rel=2e-3)


def test_a_known_smooth_warp_is_recovered_to_half_a_voxel(
    make_grid: Callable[..., Grid], orientation: str, rng: np.random.Generator
) -> None:
    grid = make_grid(orientation, SHAPE, (2.0, 2.0, 2.5))
    fixed, moving, truth_mm = warped_pair(grid, rng)
    nothing = DisplacementField.zero(grid)
    found = refine(fixed, moving, Affine.identity(), nothing, effort="best")
    voxels = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    error_mm = np.linalg.norm(found.at(voxels) - truth_mm, axis=-1)[4:-4, 4:-4, 4:-4]
    assert error_mm.mean() < 0.5 * 2.0
    assert regularity(found).folding_fraction == 0


def test_an_affine_and_an_inverted_contrast_do_not_matter(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """The moving image lies elsewhere, as the affine says, and is bright where it was dark."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    fixed, moving, truth_mm = warped_pair(grid, rng)
    away = np.array([[0.0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]])
    placed = Volume(500 - 2 * moving.data, Grid(grid.shape, away @ grid.affine))
    nothing = DisplacementField.zero(grid)
    found = refine(fixed, placed, Affine(away), nothing, effort="best")
    error_mm = np.linalg.norm(found.vectors_mm - truth_mm, axis=-1)[4:-4, 4:-4, 4:-4]
    assert error_mm.mean() < 0.5 * 2.0


def test_a_perfect_field_is_given_back_as_it_is(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid("oblique", SHAPE, (2.0, 2.0, 2.0))
    image = Volume(texture(SHAPE, rng), grid)
    nothing = DisplacementField.zero(grid)
    assert refine(image, image, Affine.identity(), nothing, effort="fast") is nothing
    assert refine(image, image, Affine.identity(), nothing, effort="none") is nothing


def test_a_coarse_level_that_misleads_is_not_followed(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large blobs say 18 mm, the fine texture says 0: what is seen in detail is right.

    Where the coarse level is followed, it ends less alike than the start, and nothing is kept.
    """
    grid = Grid((56, 52, 48), np.diag([2.0, 2.0, 2.0, 1.0]))
    blobs = ndimage.gaussian_filter(rng.standard_normal(grid.shape), 6.0)
    blobs *= 4 / blobs.std()
    detail = ndimage.gaussian_filter(rng.standard_normal(grid.shape), 0.8)
    detail /= detail.std()
    fixed = Volume((blobs + detail).astype(np.float32), grid)
    shifted = ndimage.shift(blobs, (9, 0, 0), order=1, mode="nearest")
    moving = Volume((shifted + detail).astype(np.float32), grid)

    def error_mm() -> float:
        start = DisplacementField.zero(grid)
        refined = refine(fixed, moving, Affine.identity(), start, effort="fast")
        return float(np.linalg.norm(refined.vectors_mm, axis=-1).mean())

    assert 0 < error_mm() < 0.1 * 18
    monkeypatch.setattr(
        "service.registration.refine._entered",
        lambda sight, climbed, _before: (sight.level(climbed), climbed),
    )
    assert error_mm() == 0


def test_flat_volumes_leave_the_field_alone(make_grid: Callable[..., Grid]) -> None:
    grid = make_grid("RAS", (6, 5, 1), (2.0, 2.0, 2.0))
    flat = Volume(np.full(grid.shape, 3, np.int16), grid)
    nothing = DisplacementField.zero(grid)
    assert refine(flat, flat, Affine.identity(), nothing, effort="best") is nothing


def test_what_lies_outside_the_mask_does_not_pull(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """Noise over half of the moving image, hidden by the fixed mask, then by the moving one."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    fixed, moving, truth_mm = warped_pair(grid, rng)
    moving.data[22:] = 1000 * texture(SHAPE, rng)[22:]
    mask = np.zeros(SHAPE, np.uint8)
    mask[:20] = 1
    masks = {"fixed_mask": Volume(mask, grid)}, {"moving_mask": Volume(mask, grid)}
    nothing = DisplacementField.zero(grid)
    for chosen in masks:
        found = refine(fixed, moving, Affine.identity(), nothing, effort="best", **chosen)  # type: ignore[arg-type]
        error_mm = np.linalg.norm(found.vectors_mm - truth_mm, axis=-1)
        assert error_mm[4:16, 4:-4, 4:-4].mean() < 0.5 * 2.0
        assert np.linalg.norm(found.vectors_mm[32:], axis=-1).mean() < 2.0  # nothing drags it


class CountingClock:
    """Every look takes a second."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return float(self.looks)


@pytest.mark.parametrize("budget_s", [1.0, 12.0, 40.0])
def test_a_budget_ends_the_climb(
    make_grid: Callable[..., Grid], rng: np.random.Generator, budget_s: float
) -> None:
    """A step takes at least one look at the clock, so no more steps than seconds."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    fixed, moving, _ = warped_pair(grid, rng)
    clock = CountingClock()
    nothing = DisplacementField.zero(grid)
    refine(fixed, moving, Affine.identity(), nothing, effort=budget_s, clock=clock)
    levels = 3
    assert clock.looks <= budget_s + 4 * levels


def test_the_strongest_forces_do_not_hold_back_the_others(rng: np.random.Generator) -> None:
    """Smoothed as by scipy, then each length in mm to the power 3/4, its direction kept."""
    shape = (3, 9, 16, 12)
    spacing = np.array([1.0, 1.5, 3.0], np.float32)
    taps = tap_weights(np.array([1.2, 0.8, 0.4]))
    force = (rng.standard_normal(shape) * rng.lognormal(-3, 3, shape)).astype(np.float32)
    found, largest = np.empty_like(force), np.empty(9, np.float32)
    planes = (3, 9, 16 * 12)
    kernels.smooth_force(force.reshape(planes), taps, spacing, found.reshape(planes), largest)
    smoothed = ndimage.correlate1d(force, taps[0][[2, 1, 0, 1, 2]].astype(np.float64), axis=1)
    length = np.linalg.norm(smoothed * spacing[:, None, None, None], axis=0)
    np.testing.assert_allclose(found[:, 2:-2], (smoothed / length**0.25)[:, 2:-2], rtol=1e-3)
    top = (length**1.5).reshape(9, -1).max(axis=1)
    np.testing.assert_allclose(largest, [0, 0, *top[2:-2], 0, 0], rtol=1e-4)


def test_where_there_is_no_force_there_is_none_afterwards() -> None:
    nothing, largest = np.zeros((3, 5, 32), np.float32), np.ones(5, np.float32)
    out = np.ones_like(nothing)
    sharp = np.tile(np.array([1, 0, 0], np.float32), (3, 1))
    kernels.smooth_force(nothing, sharp, np.ones(3, np.float32), out, largest)
    assert not out.any()
    assert not largest.any()


def test_large_levels_get_fewer_steps_but_enough() -> None:
    plan = Plan(10**6, (40, 24), voxel_steps=6e6)
    assert [plan.steps_on(0, n) for n in (1000, 200_000, 10**6)] == [40, 30, 6]
    assert [plan.steps_on(1, n) for n in (1000, 400_000, 10**6)] == [24, 15, 6]
    assert Plan(10**6, (5,), voxel_steps=6e6).steps_on(0, 2 * 10**6) == 5
    assert plan_for(30.0).steps_on(2, 10**7) == BEST.steps[2]


def test_levels_halve_down_to_what_the_plan_allows(make_grid: Callable[..., Grid]) -> None:
    brain = Volume(
        np.zeros((160, 200, 160), np.uint8), make_grid("RAS", (160, 200, 160), (1, 1, 1))
    )
    assert level_spacings(brain.grid, FAST) == [4.0, 2.0]
    assert level_spacings(brain.grid, BEST) == [4.0, 2.0, 1.0]
    slab = Volume(np.zeros((30, 40, 9), np.uint8), make_grid("RAS", (30, 40, 9), (1, 1, 5)))
    assert level_spacings(slab.grid, BEST) == [2.0, 1.0]
    slice_ = Volume(np.zeros((30, 40, 1), np.uint8), make_grid("RAS", (30, 40, 1), (1, 1, 5)))
    assert level_spacings(slice_.grid, BEST) == [1.0]


def test_thick_slices_are_looked_at_evenly(make_grid: Callable[..., Grid]) -> None:
    """A linear ramp stays one between the slices; the field of view stays, and a slice alone."""
    grid = make_grid("oblique", (12, 14, 8), (1, 1, 3))
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), grid.shape)
    coarse, fine = fixed_levels(Volume(ramp, grid), [2.0, 1.0])
    assert fine.grid.shape == (12, 14, 24)
    np.testing.assert_allclose(fine.grid.extent_mm, grid.extent_mm)
    np.testing.assert_allclose(fine.grid.centre_mm, grid.centre_mm)
    np.testing.assert_allclose(np.diff(fine.data[0, 0, 1:-1]), 1 / 3, rtol=1e-4)
    np.testing.assert_allclose(coarse.grid.spacing_mm, 2.0)
    alone = make_grid("RAS", (12, 14, 1), (1, 1, 5))
    image = Volume(np.ones(alone.shape, np.float32), alone)
    assert fixed_levels(image, [1.0])[0].grid.shape == alone.shape


@pytest.mark.parametrize(
    ("rough", "even"),
    [
        (Plan(10**6, (8, 8)), Plan(10**6, (8, 8), step_voxels=0.5)),
        (Plan(10**6, (8, 8), evening=0.2), Plan(10**6, (8, 8), evening=0.8)),
    ],
)
def test_short_steps_and_more_evening_out_make_a_field_even_on_every_level(
    make_grid: Callable[..., Grid], rng: np.random.Generator, rough: Plan, even: Plan
) -> None:
    """Noise pulls everywhere in its own direction; what remains of it is the plan's balance."""
    fine, coarse = (make_grid("RAS", (n, n, n), (32 / n,) * 3) for n in (32, 16))
    pairs = []
    for grid in (coarse, fine):
        fixed, moving = (Volume(texture(grid.shape, rng), grid) for _ in range(2))
        pairs.append(LevelPair(fixed, moving, Affine.identity()))
    for count in (1, 2):
        spreads = []
        for plan in (rough, even):
            nothing = DisplacementField.zero(coarse)
            found = climb(Levels(pairs[:count], (2.0, 1.0)[:count], pairs[-1]), nothing, plan=plan)
            spreads.append(regularity(found.field).sdlogj)
        assert 0.02 < spreads[1] < 0.85 * spreads[0]


def test_the_more_alike_a_pair_is_the_less_of_its_noise_is_followed(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """One image twice, with noise of its own each time: all that is found is wrong."""
    steps = [BEST.from_further(alike).step_voxels for alike in (-0.1, 0.6, 0.725, 0.85, 1.0)]
    assert steps == pytest.approx([0.6, 0.6, 0.375, 0.15, 0.15])
    fine, coarse = (make_grid("RAS", (n, n, n), (32 / n,) * 3) for n in (32, 16))
    pairs = []
    for grid in (coarse, fine):
        image = texture(grid.shape, rng)
        noisy = (image + 0.2 * texture(grid.shape, rng) for _ in range(2))
        pairs.append(LevelPair(*(Volume(one, grid) for one in noisy), Affine.identity()))
    moved = []
    for alike in (0.0, 0.6, 0.95):
        plan = Plan(10**6, (8,)).from_further(alike)
        found = climb(
            Levels(pairs, (2.0, 1.0), pairs[-1]), DisplacementField.zero(coarse), plan=plan
        )
        moved.append(float(np.linalg.norm(found.field.vectors_mm, axis=-1).mean()))
    assert moved[0] == moved[1] > 1.05 * moved[2] > 0


def test_it_is_deterministic_and_can_be_stopped(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid("LPS", SHAPE, (2.0, 2.0, 2.0))
    fixed, moving, _ = warped_pair(grid, rng)
    nothing = DisplacementField.zero(grid.resampled(5.0))
    first, second = (
        refine(fixed, moving, Affine.identity(), nothing, effort="fast") for _ in range(2)
    )
    assert first.vectors_mm.tobytes() == second.vectors_mm.tobytes()

    def stop(_stage: str, _fraction: float) -> None:
        raise JobCancelledError

    with pytest.raises(JobCancelledError):
        refine(fixed, moving, Affine.identity(), nothing, effort="fast", watch=stop)


@pytest.mark.real_data
def test_two_real_brains_come_closer_without_a_fold(shared_data: Path) -> None:
    """At 2 mm; correlation between the images rises by what the deformation alone can give."""
    folder = shared_data / "brain_malf35"
    fixed, moving = (
        coarser(read_volume(folder / f"{name}_SS.nii.gz", Limits(), "fixed"), 2.0)
        for name in ("1000", "1001")
    )
    affine = initialise(fixed, moving, "affine")
    nothing = DisplacementField.zero(fixed.grid)
    found = refine(fixed, moving, affine, nothing, effort="fast")
    before, after = (_correlation(fixed, moving, affine, field) for field in (nothing, found))
    assert 1 - after < 0.3 * (1 - before)
    assert regularity(found).non_diffeomorphic_volume < 1e-4


def _correlation(fixed: Volume, moving: Volume, affine: Affine, field: DisplacementField) -> float:
    centres = fixed.grid.to_world(np.moveaxis(np.indices(fixed.grid.shape), 0, -1))
    at = moving.grid.to_voxel(affine.move(field.move(centres)))
    warped = ndimage.map_coordinates(moving.data, np.moveaxis(at, -1, 0), order=1)
    return float(np.corrcoef(fixed.data.ravel(), warped.ravel())[0, 1])
