"""The trainer warps, composes and integrates as the service does, and as scipy says."""

import numpy as np
import pytest
from scipy import ndimage

from service.registration import regularity, resample
from service.registration.fields import DisplacementField, VelocityField
from service.registration.grid import Grid
from service.registration.volume import Volume

torch = pytest.importorskip("torch")

from trainer import spatial  # noqa: E402

SHAPE = (14, 18, 11)
GRID = Grid(SHAPE, np.eye(4))
BOTH = pytest.mark.parametrize("shape", [(14, 18, 11), (15, 22)], ids=["3-D", "2-D"])
# float32 on the CPU goes through the kernels, float64 through torch.
WAYS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernels", "torch"])


def _smooth(rng: np.random.Generator, size: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    noise = rng.normal(size=(len(shape), *shape))
    smooth = np.stack([ndimage.gaussian_filter(part, 2.5) for part in noise])
    return (size * smooth / np.abs(smooth).max()).astype(np.float32)


def _fields(
    rng: np.random.Generator, size: float, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """A batch of two."""
    return torch.from_numpy(np.stack([_smooth(rng, size, shape) for _ in range(2)])).to(dtype)


def _channels_last(field: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(field, 0, -1))


def _inside(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    ends = np.reshape(shape, (-1, *[1] * len(shape))) - 0.5
    return ((places >= -0.5) & (places <= ends)).all(axis=0)


@BOTH
@WAYS
@pytest.mark.parametrize("order", [0, 1])
def test_warp_samples_where_scipy_samples(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype, order: int
) -> None:
    values = torch.from_numpy(rng.random((2, 3, *shape))).to(dtype)
    u = _fields(rng, 6, shape, dtype)
    mode = ("nearest", "linear")[order]
    ours = spatial.warp(values, u, mode=mode, fill=-1.0).numpy()
    for n in range(2):
        places = np.indices(shape) + u[n].double().numpy()
        inside = _inside(places, shape)
        assert 0.05 < 1 - inside.mean() < 0.9
        for c in range(3):
            theirs = ndimage.map_coordinates(
                values[n, c].numpy(), places, order=order, mode="nearest"
            )
            np.testing.assert_allclose(ours[n, c], np.where(inside, theirs, -1), atol=2e-5)


@WAYS
@pytest.mark.parametrize("order", [0, 1])
def test_without_a_fill_value_the_edge_goes_on(
    rng: np.random.Generator, dtype: torch.dtype, order: int
) -> None:
    values = torch.from_numpy(rng.random((1, 1, *SHAPE))).to(dtype)
    u = 3 * _fields(rng, 6, SHAPE, dtype)[:1]
    places = np.indices(SHAPE) + u[0].double().numpy()
    ours = spatial.warp(values, u, mode=("nearest", "linear")[order], fill=None)
    theirs = ndimage.map_coordinates(values[0, 0].numpy(), places, order=order, mode="nearest")
    np.testing.assert_allclose(ours[0, 0], theirs, atol=2e-5)


@WAYS
def test_the_moving_image_may_have_another_size(
    rng: np.random.Generator, dtype: torch.dtype
) -> None:
    values = torch.from_numpy(rng.random((1, 1, 20, 9, 31))).to(dtype)
    u = _fields(rng, 2, SHAPE, dtype)[:1]
    places = np.indices(SHAPE) + u[0].double().numpy()
    theirs = ndimage.map_coordinates(values[0, 0].numpy(), places, order=1, mode="nearest")
    theirs = np.where(_inside(places, (20, 9, 31)), theirs, 0)
    np.testing.assert_allclose(spatial.warp(values, u)[0, 0], theirs, atol=2e-5)


def test_warp_is_the_services_with_its_border(rng: np.random.Generator) -> None:
    values, field = rng.random(SHAPE).astype(np.float32), _smooth(rng, 6)
    theirs = resample.warp(
        Volume(values, GRID), DisplacementField(_channels_last(field), GRID), fill=-1.0
    )
    ours = spatial.warp(
        torch.from_numpy(values)[None, None], torch.from_numpy(field)[None], fill=-1.0
    )
    np.testing.assert_allclose(ours[0, 0], theirs.data, atol=2e-5)


def test_compose_is_the_services(rng: np.random.Generator) -> None:
    outer, inner = _smooth(rng, 2), _smooth(rng, 2)
    theirs = resample.compose(
        DisplacementField(_channels_last(outer), GRID),
        DisplacementField(_channels_last(inner), GRID),
    )
    ours = spatial.compose(torch.from_numpy(outer)[None], torch.from_numpy(inner)[None])
    np.testing.assert_allclose(_channels_last(ours[0].numpy()), theirs.vectors_mm, atol=2e-5)


@WAYS
def test_integrate_is_the_services(rng: np.random.Generator, dtype: torch.dtype) -> None:
    velocity = _smooth(rng, 3)
    theirs = resample.integrate(VelocityField(_channels_last(velocity), GRID))
    ours = spatial.integrate(torch.from_numpy(velocity)[None].to(dtype))
    # At the border a sample is in or out by its last bit.
    difference = np.abs(_channels_last(ours[0].numpy()) - theirs.vectors_mm)
    core = (slice(3, -3),) * 3
    assert difference[core].max() < 2e-5
    assert (difference > 2e-5).mean() < 0.01


@BOTH
def test_a_constant_velocity_moves_by_itself(shape: tuple[int, ...]) -> None:
    vector = torch.tensor([0.5, -1.0, 0.25])[: len(shape)].reshape(1, -1, *[1] * len(shape))
    velocity = vector.expand(2, -1, *shape)
    core = (..., *[slice(2, -2)] * len(shape))
    torch.testing.assert_close(spatial.integrate(velocity)[core], velocity[core], atol=1e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_upsampling_is_linear_by_position(
    rng: np.random.Generator, shape: tuple[int, ...], factor: int
) -> None:
    cells = rng.random((1, len(shape), *shape)).astype(np.float32)
    size = tuple(factor * n - axis for axis, n in enumerate(shape))
    fine = [(np.arange(n) - (factor - 1) / 2) / factor for n in size]
    places = np.meshgrid(*fine, indexing="ij")
    ours = spatial.upsample(torch.from_numpy(cells), factor, size)[0].numpy()
    for part, found in zip(cells[0], ours, strict=True):
        expected = ndimage.map_coordinates(part, places, order=1, mode="nearest")
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_field_of_full_resolution_is_only_cropped() -> None:
    field = torch.rand(1, 2, 6, 8)
    assert torch.equal(spatial.upsample(field, 1, (5, 8)), field[:, :, :5])


def test_the_jacobian_is_the_services(rng: np.random.Generator) -> None:
    field = _smooth(rng, 3)
    theirs = regularity.regularity(DisplacementField(_channels_last(field), GRID)).determinants
    ours = spatial.jacobian_determinant(torch.from_numpy(field)[None])[0]
    np.testing.assert_allclose(ours, theirs.data, atol=1e-5)


@BOTH
def test_the_jacobian_of_a_linear_map_is_its_determinant(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    ndim = len(shape)
    matrix = np.eye(ndim) + 0.2 * rng.normal(size=(ndim, ndim))
    u = np.einsum("ab,b...->a...", matrix - np.eye(ndim), np.indices(shape))
    found = spatial.jacobian_determinant(torch.from_numpy(u)[None])
    np.testing.assert_allclose(found[0], np.linalg.det(matrix), atol=1e-9)


@BOTH
def test_an_affine_turns_about_the_centre_of_the_grid(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    ndim = len(shape)
    matrices = np.concatenate(
        [np.eye(ndim) + 0.2 * rng.normal(size=(2, ndim, ndim)), rng.normal(size=(2, ndim, 1))],
        axis=2,
    )
    found = spatial.affine_displacement(torch.from_numpy(matrices), shape).numpy()
    centre = (np.array(shape) - 1) / 2
    for matrix, u in zip(matrices, found, strict=True):
        for x in [(0,) * ndim, (3, 5, 2)[:ndim], tuple(n - 1 for n in shape)]:
            y = matrix[:, :ndim] @ (x - centre) + matrix[:, ndim] + centre
            np.testing.assert_allclose(x + u[(slice(None), *x)], y, atol=1e-9)


@BOTH
def test_gradients_of_warp_are_those_of_differences(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    small = tuple(n // 3 for n in shape)
    values = torch.rand(2, 2, *small, generator=generator, dtype=torch.float64)
    u = 2 * torch.rand(2, len(shape), *small, generator=generator, dtype=torch.float64) - 0.7
    torch.autograd.gradcheck(spatial.warp, (values.requires_grad_(), u.requires_grad_()))


def test_nearest_gives_the_values_a_gradient_and_refuses_the_field() -> None:
    values, u = torch.rand(1, 1, 4, 5, requires_grad=True), torch.full((1, 2, 4, 5), 0.4)
    spatial.warp(values, u, mode="nearest").sum().backward()
    assert torch.equal(values.grad, torch.ones_like(values))
    with pytest.raises(ValueError, match="no gradient for the field"):
        spatial.warp(values, u.requires_grad_(), mode="nearest")


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@WAYS
def test_a_field_that_is_not_a_number_leads_outside(mode: str, dtype: torch.dtype) -> None:
    u = torch.full((1, 2, 3, 3), float("nan"), dtype=dtype)
    warped = spatial.warp(torch.ones(1, 1, 3, 3, dtype=dtype), u, mode=mode, fill=7.0)
    assert (warped == 7).all()


def test_half_precision_is_sampled_in_full() -> None:
    values = torch.rand(1, 1, 6, 7, 8).bfloat16()
    u = torch.full((1, 3, 6, 7, 8), 0.3).bfloat16()
    assert torch.equal(spatial.warp(values, u), spatial.warp(values.float(), u.float()))
