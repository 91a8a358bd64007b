"""The trainer warps, composes and integrates as the service does, and as scipy says."""

import numpy as np
import pytest
from scipy import ndimage

from service.registration import resample
from service.registration.fields import DisplacementField, VelocityField
from service.registration.grid import Grid
from service.registration.volume import Volume

torch = pytest.importorskip("torch")

from trainer import spatial  # noqa: E402

SHAPE = (14, 18, 11)
GRID = Grid(SHAPE, np.eye(4))


def _smooth(rng: np.random.Generator, size: float) -> np.ndarray:
    noise = rng.normal(size=(3, *SHAPE))
    smooth = np.stack([ndimage.gaussian_filter(part, 2.5) for part in noise])
    return (size * smooth / np.abs(smooth).max()).astype(np.float32)


def _channels_last(field: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(field, 0, -1))


def test_pull_samples_where_scipy_samples(rng: np.random.Generator) -> None:
    values, field = rng.random(SHAPE).astype(np.float32), _smooth(rng, 6)
    places = np.indices(SHAPE) + field
    expected = ndimage.map_coordinates(values, places, order=1, mode="nearest")
    ours = spatial.pull(torch.from_numpy(values)[None], torch.from_numpy(field))[0]
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_warp_is_the_services_with_its_border(rng: np.random.Generator) -> None:
    values, field = rng.random(SHAPE).astype(np.float32), _smooth(rng, 6)
    theirs = resample.warp(
        Volume(values, GRID), DisplacementField(_channels_last(field), GRID), fill=-1.0
    )
    ours = spatial.warp(torch.from_numpy(values)[None], torch.from_numpy(field), fill=-1.0)[0]
    np.testing.assert_allclose(ours, theirs.data, atol=2e-5)


def test_compose_is_the_services_where_both_stay_inside(rng: np.random.Generator) -> None:
    outer, inner = _smooth(rng, 2), _smooth(rng, 2)
    theirs = resample.compose(
        DisplacementField(_channels_last(outer), GRID),
        DisplacementField(_channels_last(inner), GRID),
    )
    ours = spatial.compose(torch.from_numpy(outer), torch.from_numpy(inner)).numpy()
    core = (slice(3, -3),) * 3
    np.testing.assert_allclose(_channels_last(ours)[core], theirs.vectors_mm[core], atol=2e-5)


def test_integrate_is_the_services_inside(rng: np.random.Generator) -> None:
    velocity = _smooth(rng, 2)
    theirs = resample.integrate(VelocityField(_channels_last(velocity), GRID))
    ours = spatial.integrate(torch.from_numpy(velocity)).numpy()
    core = (slice(3, -3),) * 3
    np.testing.assert_allclose(_channels_last(ours)[core], theirs.vectors_mm[core], atol=1e-3)


def test_a_constant_velocity_moves_by_itself() -> None:
    velocity = torch.ones(3, 8, 8, 8) * torch.tensor([0.5, -1.0, 0.25])[:, None, None, None]
    torch.testing.assert_close(spatial.integrate(velocity), velocity, atol=1e-5, rtol=0)
