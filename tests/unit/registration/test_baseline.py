"""What is told of a pair before its deformation is what measuring it one by one tells."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from service.registration.alignment import prepare
from service.registration.baseline import Baseline
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.label_metrics import dice
from service.registration.metrics import lncc, ncc, nmi
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pair import Pair
from service.registration.plausibility import plausibility
from service.registration.prepared import COMPARED_VOXELS
from service.registration.resample import downsample, resample, warp
from service.registration.scouted import Scouted
from service.registration.volume import Volume
from tests.phantoms import Scene

SHIFT = np.eye(4)
SHIFT[0, 3] = 3.0


@pytest.fixture
def pair(make_grid: Callable[..., Grid]) -> Pair:
    """One scene on two oblique grids, labels of both, and a transform that the caller gave."""
    grids = (
        make_grid("oblique", (30, 26, 22), (2.0, 2.5, 3.0)),
        make_grid("LPS", (28, 30, 24), (2.2,) * 3),
    )
    scene = Scene(np.random.default_rng(3), grids[0].centre_mm, 50.0)
    places = [grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) for grid in grids]
    images = [scene.image(place).astype(np.float32) for place in places]
    fixed, moving = (Volume(data, grid) for data, grid in zip(images, grids, strict=True))
    labels = [
        image.with_data((image.data > np.median(image.data)).astype(np.uint8))
        for image in (fixed, moving)
    ]
    return Pair(fixed, moving, *labels, initial=Affine(SHIFT))


def test_figures_are_those_of_the_parts(pair: Pair) -> None:
    prepared = prepare(pair, RegisterOptions(), ModelFolder(provider="cpu").load("discrete"))
    with ThreadPoolExecutor(1) as beside:
        baseline = Baseline(pair, prepared, RegisterOptions(), beside)
        early = dict(baseline.figures)
        baseline.place(pair.initial)
        told = baseline.figures
    grid, coarse = pair.fixed.grid, pair.fixed.grid.coarsened(COMPARED_VOXELS)
    laid = resample(pair.moving, grid, affine=pair.initial)
    assert np.array_equal(baseline.as_sent.image.data, laid.data)
    small = downsample(pair.fixed, coarse), downsample(laid, coarse)
    assert told["ncc_before"] == pytest.approx(ncc(pair.fixed, laid))
    assert told["lncc_before"] == pytest.approx(lncc(*small))
    assert told["nmi_before"] == pytest.approx(nmi(*small))
    assert pair.fixed_labels is not None
    assert pair.moving_labels is not None
    assert baseline.as_sent.labels is not None
    overlap = dice(pair.fixed_labels, baseline.as_sent.labels)
    assert told["dice_before"] == {"1": pytest.approx(overlap[1])}
    assert told["mean_dice_before"] == pytest.approx(overlap[1])
    seen = [
        Scouted(downsample(image, image.grid.coarsened(COMPARED_VOXELS)))
        for image in (pair.fixed, pair.moving)
    ]
    fit = plausibility(*seen, pair.initial, pair.fixed_labels, pair.moving_labels)
    assert {name: told[name] for name in fit} == fit
    assert early == {name: value for name, value in told.items() if name not in fit}


def test_a_cubic_that_swings_beyond_its_values_is_looked_at(pair: Pair) -> None:
    bright = np.zeros(pair.moving.grid.shape, np.float32)
    bright[10:12, 10:12, 10:12] = 1000  # in an otherwise empty image: 0 to 1000 is believed
    options = RegisterOptions(interpolation="cubic", fill=0.0)
    lit = replace(pair, moving=pair.moving.with_data(bright))
    models = ModelFolder(provider="cpu")
    grid = pair.moving.grid
    shift = DisplacementField(np.full((*grid.shape, 3), 0.4, np.float32), grid)
    swings = warp(lit.moving, shift, interpolation="cubic")
    with ThreadPoolExecutor(1) as beside:
        baseline = Baseline(lit, prepare(lit, options, models.load("discrete")), options, beside)
        assert swings.data.min() < 0
        assert baseline.seen(swings).data.min() == 0
