"""The kernels' values and gradients are those of torch's sampling in double precision."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402, N812

from trainer import spatial  # noqa: E402
from trainer.sampling import MANY_CHANNELS, is_for_kernels, plan  # noqa: E402

SHAPES = pytest.mark.parametrize("shape", [(9, 12, 7), (13, 10), (1, 8, 6), (5, 1, 1)], ids=str)


def _smooth(shape: tuple[int, ...], size: float, seed: int) -> torch.Tensor:
    """A batch of two fields that lead well outside too."""
    generator = torch.Generator().manual_seed(seed)
    coarse = size * torch.randn(2, len(shape), *[3] * len(shape), generator=generator)
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return F.interpolate(coarse, size=shape, mode=mode, align_corners=True)


def _values_and_gradients(function: object, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    out = function(*leaves)  # type: ignore[operator]
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).sin().reshape(out.shape)
    return (out.detach(), *torch.autograd.grad((weight * out).sum(), leaves))


def _require_equal(function: object, *inputs: torch.Tensor) -> None:
    found = _values_and_gradients(function, *inputs)
    expected = _values_and_gradients(function, *(one.double() for one in inputs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), atol=3e-5, rtol=1e-4)


@SHAPES
@pytest.mark.parametrize("channels", [1, 3, MANY_CHANNELS])
@pytest.mark.parametrize("fill", [0.5, None])
def test_warp(shape: tuple[int, ...], channels: int, fill: float | None) -> None:
    values = torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(1))
    _require_equal(lambda v, u: spatial.warp(v, u, fill=fill), values, _smooth(shape, 3, seed=2))


@SHAPES
@pytest.mark.parametrize("stride", [1, 2])
def test_integrate(shape: tuple[int, ...], stride: int) -> None:
    _require_equal(lambda v: spatial.integrate(v, stride=stride), _smooth(shape, 2, seed=3))


def test_memory_order_does_not_matter() -> None:
    u = _smooth((6, 7, 5), 2, seed=4)
    turned = u.contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(spatial.integrate(turned), spatial.integrate(u))
    for channels in (3, MANY_CHANNELS):
        values = torch.rand(2, channels, 6, 7, 5)
        other = values.contiguous(memory_format=torch.channels_last_3d)
        assert torch.equal(spatial.warp(other, turned), spatial.warp(values, u))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
def test_features_keep_their_memory_order(order: torch.memory_format) -> None:
    values = torch.rand(2, MANY_CHANNELS, 6, 7, 5).contiguous(memory_format=order)
    warped = spatial.warp(values, _smooth((6, 7, 5), 2, seed=4))
    assert warped.is_contiguous(memory_format=order)


def test_the_number_of_threads_changes_no_value() -> None:
    values, u = torch.rand(1, 2, 16, 9, 8), _smooth((16, 9, 8), 3, seed=5)[:1]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(_values_and_gradients(spatial.warp, values, u))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_only_what_the_kernels_know_goes_to_them() -> None:
    assert is_for_kernels(torch.zeros(1))
    assert not is_for_kernels(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    assert not is_for_kernels(torch.zeros(1, device="meta"))


def test_the_parts_cover_every_slab_once_and_all_that_they_draw_on() -> None:
    low = np.array([[0, 2, 1, 3, 3], [4, 0, 0, 2, 2]])
    high = low + 2
    parts, room = plan(low, high, plane=10)
    seen = [(n, slab) for n, first, end, *_ in parts for slab in range(first, end)]
    assert seen == list(itertools.product(range(2), range(5)))
    for n, first, end, lower, upper, _ in parts:
        assert lower <= low[n, first:end].min()
        assert upper > high[n, first:end].max()
    planes = parts[:, 4] - parts[:, 3]
    np.testing.assert_array_equal(parts[:, 5], 10 * (np.cumsum(planes) - planes))
    assert room == 10 * planes.sum()


def test_a_field_of_another_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot warp"):
        spatial.warp(torch.zeros(2, 1, 4, 4), torch.zeros(1, 2, 4, 4))


class _Moved(torch.nn.Module):
    def forward(self, values: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        return spatial.warp(values, spatial.integrate(velocity, 2))


def test_a_graph_is_made_of_torchs_own_operations() -> None:
    """No kernel of ours could be written into it."""
    inputs = torch.rand(2, 1, 6, 7, 5), _smooth((6, 7, 5), 2, seed=6)
    assert is_for_kernels(*inputs)
    program = torch.export.export(_Moved(), inputs)
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls
    assert {str(target).partition(".")[0] for target in calls} <= {"aten", "_operator"}
    torch.testing.assert_close(program.module()(*inputs), _Moved()(*inputs), atol=3e-5, rtol=1e-4)
