"""Where a registration starts: a search that makes a pair less alike is not followed."""

from collections.abc import Callable

import numpy as np
import pytest

from service.registration.alignment import (
    RELATED,
    UNRELATED,
    Alignment,
    align,
    begun,
    is_less_explained,
    prepare,
)
from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import Initialise, RegisterOptions
from service.registration.pair import Pair
from service.registration.prepared import PreparedFixed, PreparedMoving, PreparedPair
from service.registration.progress import StageClock
from service.registration.volume import Volume
from tests.phantoms import Scene

SHAPE = (24, 22, 20)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return ModelFolder(provider="cpu").load("discrete")


def shift(mm: float) -> Affine:
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return Affine(matrix)


def picture(make_grid: Callable[..., Grid]) -> Volume:
    grid = make_grid("RAS", SHAPE, (2.0, 2.0, 2.0))
    scene = Scene(np.random.default_rng(5), grid.centre_mm, float(grid.extent_mm.min()))
    places = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Volume(scene.image(places).astype(np.float32), grid)


@pytest.mark.parametrize(
    ("away_mm", "how", "expected_mm"),
    [
        ((0.0, 0.0), "affine", 0.0),  # the search is wrong
        ((0.0, 0.0), "rigid", 0.0),
        ((8.0, 0.0), "affine", 8.0),  # the search is right
        ((8.0, 8.0), "affine", 8.0),  # the caller's transform is right, and it is what stays
        ((500.0, 492.0), "affine", 500.0),  # the search is right, after a nearly right transform
        ((0.0, 0.0), "centre", 8.0),  # what was asked for, and no search
    ],
)
def test_an_affine_that_helps_nothing_is_left_out(
    make_grid: Callable[..., Grid],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    away_mm: tuple[float, float],
    how: Initialise,
    expected_mm: float,
) -> None:
    """The search always says 8 mm; the image lies away, and the caller knows how far, or not."""
    monkeypatch.setattr(
        "service.registration.alignment.initialise_scouted", lambda *_args: shift(8.0)
    )
    image = picture(make_grid)
    grid = image.grid
    away = Volume(image.data, Grid(grid.shape, shift(away_mm[0]).matrix @ grid.affine))
    fixed = PreparedFixed(image, None, engine, RegisterOptions())
    moving = PreparedMoving(away, None, fixed.resolutions, shift(away_mm[1]))
    with StageClock(lambda *_: None).stage("initialise") as stage:
        found = begun(PreparedPair(fixed, moving), how, stage)
    assert found.affine.matrix[0, 3] == pytest.approx(expected_mm)


@pytest.mark.parametrize("differ", [True, False])
def test_between_contrasts_what_explains_less_of_the_pair_is_known(
    make_grid: Callable[..., Grid], engine: Engine, differ: bool
) -> None:
    """As it lies, a curve of values explains all; moved away, less. Lines are not asked."""
    image = picture(make_grid)
    values = (image.data - image.data.min()) / np.ptp(image.data)
    other = np.sin(3 * np.pi * values).astype(np.float32) if differ else 1 - values
    fixed = PreparedFixed(image, None, engine, RegisterOptions())
    moving = PreparedMoving(Volume(other, image.grid), None, fixed.resolutions, Affine.identity())
    pair = PreparedPair(fixed, moving)
    nothing = DisplacementField.zero(image.grid)
    right, wrong = (Alignment(shift(mm), nothing, "network") for mm in (0.0, 4.0))
    assert is_less_explained(pair, right, wrong) == differ
    assert not is_less_explained(pair, right, right)
    assert not is_less_explained(pair, wrong, right)


def test_what_has_nothing_in_common_is_not_refined(
    make_grid: Callable[..., Grid], engine: Engine
) -> None:
    """Dark for bright is something in common, so is bright for both ends; noise is not."""
    image = picture(make_grid)
    options = RegisterOptions(initialise="none", refine="fast")

    def aligned(values: np.ndarray) -> tuple[str, list[str]]:
        moving = Volume(np.roll(values, 1, axis=0).astype(np.float32), image.grid)
        warnings: list[str] = []
        clock = StageClock(lambda *_: None)
        found = align(
            prepare(Pair(image, moving), options, engine), options, engine, clock, warnings
        )
        return found.answered_by, warnings

    assert aligned(-image.data) == ("refine", [])
    rank = image.data.argsort(axis=None).argsort().reshape(SHAPE) / image.data.size
    folded = np.abs(rank - 0.5)
    assert abs(np.corrcoef(image.data.ravel(), folded.ravel())[0, 1]) < RELATED
    answered_by, warnings = aligned(folded)
    assert answered_by == "refine"
    assert UNRELATED not in warnings
    answered_by, warnings = aligned(np.random.default_rng(1).standard_normal(SHAPE))
    assert answered_by != "refine"
    assert UNRELATED in warnings


def test_what_the_value_of_air_is_changes_nothing(
    make_grid: Callable[..., Grid], engine: Engine
) -> None:
    """Half of the fixed field of view lies beyond the moving one: air goes on there."""
    image = picture(make_grid)
    half = (image.grid.extent_mm[0]) / 2
    options = RegisterOptions(initialise="none")

    def alike(air: float) -> tuple[float, float]:
        fixed = PreparedFixed(
            Volume(image.data + np.float32(air), image.grid), None, engine, options
        )
        there = Grid(image.grid.shape, shift(half).matrix @ image.grid.affine)
        data = (image.data - image.data.min() + air).astype(np.float32)
        moving = PreparedMoving(Volume(data, there), None, fixed.resolutions, shift(0.0))
        pair = PreparedPair(fixed, moving)
        return pair.similarity(shift(0.0)), pair.correlation(shift(0.0))

    assert alike(-1024.0) == pytest.approx(alike(0.0), rel=1e-3)
