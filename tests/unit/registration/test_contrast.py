"""Another contrast: a table of grey values; a climb ends where that of one contrast does."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage, stats

from service.registration.contrast import (
    BINS,
    SIGMA_BINS,
    Lookup,
    Mapped,
    Samples,
    better_mapped,
    matched,
)
from service.registration.descent import LatticeField, LevelPair
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.levels import Levels
from service.registration.pyramid import coarser
from service.registration.refine import FAST, Climbed, climb, refine
from service.registration.regularity import regularity
from service.registration.sight import Sight
from service.registration.volume import Volume
from tests.unit.registration.test_refine import SHAPE, texture, warped_pair

Values = Callable[[np.ndarray], np.ndarray]
REMAPS: dict[str, Values] = {
    "rising": np.exp,
    "inverted": lambda x: -x,
    "a hill": lambda x: -(x**2),
    "a wave": lambda x: np.sin(2.5 * x),
}


def error_mm(found: DisplacementField, grid: Grid, truth_mm: np.ndarray) -> float:
    inner = (slice(4, -4),) * 3
    voxels = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return float(np.linalg.norm(found.at(voxels) - truth_mm, axis=-1)[inner].mean())


def nowhere(grid: Grid) -> LatticeField:
    return LatticeField.of(DisplacementField.zero(grid), grid)


@pytest.mark.parametrize("remap", list(REMAPS))
@pytest.mark.parametrize("changed", ["fixed", "moving"])
def test_other_grey_values_end_as_near_to_the_truth(
    make_grid: Callable[..., Grid], rng: np.random.Generator, remap: str, changed: str
) -> None:
    """Within a fifth of a voxel of what the pair of one contrast reaches, either way about."""
    grid = make_grid("LPS", SHAPE, (2.0, 2.0, 2.5))
    fixed, moving, truth_mm = warped_pair(grid, rng)
    nothing = DisplacementField.zero(grid)
    plain = error_mm(
        refine(fixed, moving, Affine.identity(), nothing, effort="best"), grid, truth_mm
    )
    if changed == "fixed":
        fixed = Volume(500 + 100 * REMAPS[remap](fixed.data / 1000), grid)
    else:
        moving = Volume(500 + 100 * REMAPS[remap](moving.data / 1000), grid)
    found = refine(fixed, moving, Affine.identity(), nothing, effort="best")
    assert error_mm(found, grid, truth_mm) < plain + 0.2 * 2.0


def test_without_the_table_a_wave_misleads(
    make_grid: Callable[..., Grid], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    fixed, moving, truth_mm = warped_pair(grid, rng)
    waved = Volume(REMAPS["a wave"](moving.data / 1000), grid)
    nothing = DisplacementField.zero(grid)
    seen = error_mm(refine(fixed, waved, Affine.identity(), nothing, effort="best"), grid, truth_mm)
    monkeypatch.setattr("service.registration.contrast.CLEARLY_MORE", 2.0)
    unseen = error_mm(
        refine(fixed, waved, Affine.identity(), nothing, effort="best"), grid, truth_mm
    )
    assert seen < 0.7 * unseen


def test_a_table_is_scipys_binned_mean_smoothed_by_its_counts(rng: np.random.Generator) -> None:
    values = rng.gamma(2.0, size=20_000)
    targets = np.sin(values) + rng.normal(size=values.size)
    low, high = np.percentile(values, (0.1, 99.9))
    held, edges = np.clip(values, low, high), np.linspace(low, high, BINS + 1)
    sums, counts = (
        ndimage.gaussian_filter1d(
            stats.binned_statistic(held, targets, how, edges).statistic, SIGMA_BINS, mode="constant"
        )
        for how in ("sum", "count")
    )
    table = Lookup.learn(values, targets)
    np.testing.assert_allclose(table.table, sums / counts, atol=1e-3)
    middles = (edges[1:] + edges[:-1]) / 2
    at = rng.uniform(low - 1, high + 1, (5, 6, 7)).astype(np.float32)
    seen = table.apply(Volume(at, Grid(at.shape, np.eye(4)))).data
    np.testing.assert_allclose(seen, np.interp(at, middles, table.table), atol=1e-4)


def test_bins_that_hold_nothing_are_interpolated() -> None:
    values = np.repeat([0.0, 100.0], 500)
    table = Lookup.learn(values, values / 10)
    between = Volume(np.full((2, 2, 2), 50, np.float32), Grid((2, 2, 2), np.eye(4)))
    assert table.apply(between).data == pytest.approx(5.0, abs=0.1)
    assert (np.diff(table.table) >= 0).all()


def test_the_image_whose_values_tell_the_others_is_mapped(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """A hill is of many to one: its height does not tell the place, and the place the height."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    image = Volume(texture(SHAPE, rng), grid)
    hill = Volume(REMAPS["a hill"](image.data), grid)
    there = LevelPair(image, hill, Affine.identity())
    back = LevelPair(hill, image, Affine.identity())
    assert better_mapped(there, nowhere(grid)) == "fixed"
    assert better_mapped(back, nowhere(grid)) == "moving"
    seen = matched(there, nowhere(grid), "fixed")
    assert np.corrcoef(seen.fixed.data.ravel(), hill.data.ravel())[0, 1] > 0.99
    assert seen.moving is hill


def test_one_contrast_is_seen_as_it_is(
    make_grid: Callable[..., Grid], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as if nothing could be mapped, rising, falling and badly aligned."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    fixed, moving, _ = warped_pair(grid, rng)
    nothing = DisplacementField.zero(grid)
    for values in (moving.data, 300 - 2 * moving.data):
        image = Volume(values, grid)
        seen = refine(fixed, image, Affine.identity(), nothing, effort="fast")
        with monkeypatch.context() as patch:
            patch.setattr("service.registration.contrast.CLEARLY_MORE", 2.0)
            plain = refine(fixed, image, Affine.identity(), nothing, effort="fast")
        assert seen.vectors_mm.tobytes() == plain.vectors_mm.tobytes()


def test_a_curve_explains_no_noise(rng: np.random.Generator) -> None:
    """However few the samples: as many means as bins explain something of anything."""
    for count in (BINS, 300, 5000):
        ratios = [
            Samples(*rng.normal(size=(2, count)), weights).correlation_ratio
            for weights in (None, rng.uniform(0.1, 1.0, count))
            for _ in range(20)
        ]
        assert np.mean(ratios) < 0.15
    values = rng.normal(size=50_000)
    noisy = values**2 + rng.normal(size=values.size)  # of variance 2 and 1
    samples = Samples(values, noisy)
    assert samples.correlation_ratio == pytest.approx(2 / 3, abs=0.02)
    assert samples.squared_correlation == pytest.approx(0, abs=0.01)


def test_few_grey_values_and_none_break_nothing(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid("oblique", SHAPE, (2.0, 2.0, 2.0))
    fixed, moving, truth_mm = warped_pair(grid, rng)
    nothing = DisplacementField.zero(grid)
    bands = np.digitize(moving.data, [-1000, -300, 300, 1000])
    few = Volume(np.array([3, 1, 4, 0, 2], np.int16)[bands], grid)
    start = float(np.linalg.norm(truth_mm, axis=-1)[4:-4, 4:-4, 4:-4].mean())
    found = refine(fixed, few, Affine.identity(), nothing, effort="best")
    assert error_mm(found, grid, truth_mm) < 0.6 * start
    flat = Volume(np.full(SHAPE, 7, np.int16), grid)
    assert refine(fixed, flat, Affine.identity(), nothing, effort="fast") is nothing


def test_what_lies_nowhere_or_in_one_slice_breaks_nothing(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    image = Volume(texture(SHAPE, rng), grid)
    hill = Volume(REMAPS["a hill"](image.data), grid)
    away = np.eye(4)
    away[0, 3] = 500.0
    apart = LevelPair(image, hill, Affine(away))
    assert matched(apart, nowhere(grid), "moving") is apart
    assert better_mapped(apart, nowhere(grid)) is None
    slice_ = make_grid("LPS", (48, 40, 1), (2.0, 2.0, 5.0))
    fixed = Volume(texture((48, 40, 9), rng)[..., 4:5], slice_)
    moving = Volume(REMAPS["a wave"](np.roll(fixed.data, 1, axis=0)), slice_)
    nothing = DisplacementField.zero(slice_)
    found = refine(fixed, moving, Affine.identity(), nothing, effort="best")
    assert np.isfinite(found.vectors_mm).all()
    assert regularity(found).folding_fraction == 0


def test_what_is_masked_is_not_learned_from(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """One half has another contrast again; hidden by either mask, the rest is of one."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    image = Volume(texture(SHAPE, rng), grid)
    other = Volume(image.data.copy(), grid)
    other.data[20:] = 3 - other.data[20:] ** 2
    mask = np.zeros(SHAPE, np.uint8)
    mask[:20] = 1
    seen = Volume(mask, grid)
    assert Samples.of(LevelPair(image, other, Affine.identity()), nowhere(grid)).contrasts_differ
    for masks in ((seen, None), (None, seen)):
        pair = LevelPair(image, other, Affine.identity(), *masks)
        samples = Samples.of(pair, nowhere(grid))
        assert samples.squared_correlation == pytest.approx(1)
        assert not samples.contrasts_differ


def test_a_start_that_is_right_stays(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """Both fields are given the table that suits them: what was climbed has no advantage."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    image = Volume(texture(SHAPE, rng), grid)
    waved = Volume(REMAPS["a wave"](image.data), grid)
    pair, right = LevelPair(image, waved, Affine.identity()), nowhere(grid)
    levels = Levels([pair], [2.0], pair)
    found = climb(levels, DisplacementField.zero(grid), plan=FAST)
    assert np.linalg.norm(found.field.vectors_mm, axis=-1).mean() < 0.1 * 2.0
    assert not found.explains_more
    wrong = LatticeField(np.full_like(right.along_mm, 2.0), grid)
    sight = Sight(levels, FAST.evening)
    sight.turn_to(0, wrong)
    assert sight.contrasts_differ
    likeness, explained = zip(sight.alike(right, wrong), sight.alike(wrong, wrong), strict=True)
    assert likeness[0] > likeness[1]
    assert explained[0] > 1.5 * explained[1]


def test_what_comes_nearer_explains_more(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """Of what the start left; in one contrast nobody asks."""
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    image = Volume(texture(SHAPE, rng), grid)

    def climbed(values: np.ndarray) -> Climbed:
        away = Volume(np.roll(values, 1, axis=0).astype(np.float32), grid)
        pair = LevelPair(image, away, Affine.identity())
        return climb(Levels([pair], [2.0], pair), DisplacementField.zero(grid), plan=FAST)

    other = climbed(REMAPS["a hill"](image.data))
    assert other.explained is not None
    assert 0.3 < other.explained < 1
    assert other.explains_more
    same = climbed(image.data)
    assert same.explained is None
    assert same.explains_more


@pytest.mark.parametrize("mapped", ["fixed", "moving"])
def test_a_curve_is_put_on_before_an_image_is_made_coarse(
    make_grid: Callable[..., Grid], rng: np.random.Generator, mapped: Mapped
) -> None:
    """A coarse voxel of fine detail is the mean of what comes out, not what the mean becomes."""
    fine = make_grid("oblique", SHAPE, (1.0, 1.0, 1.0))
    image = Volume(ndimage.gaussian_filter(rng.standard_normal(SHAPE), 0.8).astype("f4"), fine)
    other = Volume(np.sin(25 * image.data), fine)
    both = (image, other) if mapped == "fixed" else (other, image)
    whole = LevelPair(*both, Affine.identity())
    seen, there = (coarser(one, 2.0) for one in both)
    pair = LevelPair(seen, there, Affine.identity())
    levels = Levels([pair], [2.0], whole)
    exact, rough = (
        Samples.of(found, nowhere(fine)).squared_correlation
        for found in (
            levels.matched(0, nowhere(fine), mapped),
            matched(pair, nowhere(fine), mapped),
        )
    )
    assert exact > 0.8
    assert rough < 0.5


def test_a_table_is_learned_where_the_fixed_image_is_even(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """Blocks of a few values, a voxel off: at their borders each lies on its neighbours' too."""
    grid = make_grid("LPS", SHAPE, (2.0, 2.0, 3.0))
    blocks = rng.integers(0, 8, (10, 9, 9)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    values = blocks[: SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(np.float32)
    hill = 16 - (values - 4) ** 2
    pair = LevelPair(
        Volume(values, grid), Volume(np.roll(hill, 1, axis=0), grid), Affine.identity()
    )
    found = matched(pair, nowhere(grid), "fixed").fixed.data
    samples = Samples.of(pair, nowhere(grid))
    plain = Lookup.learn(samples.fixed, samples.moving).apply(pair.fixed).data
    assert np.abs(found - hill).mean() < 0.5 * np.abs(plain - hill).mean()
