"""Dense networks: shapes on any size, zero before training, levels, half precision."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from trainer.config.networks import (  # noqa: E402
    ConditionalConfig,
    DeepRegUNetBackbone,
    DeepRegUNetConfig,
    LocalNetConfig,
    OutputConfig,
    VoxelMorphBackbone,
    VoxelMorphConfig,
)
from trainer.networks.blocks import InstanceNorm  # noqa: E402
from trainer.networks.bspline import expand  # noqa: E402
from trainer.networks.conditional import Conditional  # noqa: E402
from trainer.networks.deepreg import UNet  # noqa: E402
from trainer.networks.dense import DenseNetwork  # noqa: E402
from trainer.networks.voxelmorph import VoxelMorph, grown_convolution, spreading  # noqa: E402

BOTH = pytest.mark.parametrize("ndim", [2, 3])
KINDS = pytest.mark.parametrize("kind", ["voxelmorph", "deepreg-unet", "localnet"])


def _network(kind: str, ndim: int, output: OutputConfig, **options: object) -> DenseNetwork:
    if kind == "voxelmorph":
        return VoxelMorph(
            VoxelMorphConfig(encoder=(2, 3), decoder=(3, 2, 2), output=output), ndim, (2, 1)
        )
    small = {"channels_initial": 2, "depth": 2, "output": output, **options}
    config = LocalNetConfig if kind == "localnet" else DeepRegUNetConfig
    return UNet(config(**small), ndim, (2, 1))


def _pair(network: DenseNetwork, ndim: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = tuple(network.multiple * n for n in (2, 1, 3)[:ndim])
    return torch.rand(2, 2, *size), torch.rand(2, 1, *size)


def _shake(network: nn.Module) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))


@BOTH
@KINDS
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("control_spacing", [None, 4, 6])
def test_an_untrained_network_moves_nothing_and_can_be_trained(
    ndim: int, kind: str, stride: int, control_spacing: int | None
) -> None:
    network = _network(kind, ndim, OutputConfig(stride=stride, control_spacing=control_spacing))
    fixed, moving = _pair(network, ndim)
    field = network(fixed, moving)
    assert network.stride == stride
    assert field.shape == (2, ndim, *(n // stride for n in fixed.shape[2:]))
    assert not field.any()
    field.sum().backward()
    last = network.extraction.layers[0].conv
    assert last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["voxelmorph", "localnet"])
def test_control_points_are_expanded_to_the_outputs_cells(kind: str) -> None:
    points = _network(kind, 2, OutputConfig(stride=1, control_spacing=4))
    _shake(points)
    assert points.body.finest == 2
    fixed, moving = _pair(points, 2)
    coarse = points.extraction(points.body(torch.cat([fixed, moving], dim=1)))
    torch.testing.assert_close(points(fixed, moving), expand(coarse, 4, 1))


@pytest.mark.parametrize("levels", [(0, 1, 2), (0, 2), (2, 0), (1, 2), (2,)])
def test_extracted_levels_are_those_that_were_asked_for(levels: tuple[int, ...]) -> None:
    output = OutputConfig(stride=1)
    network = _network("deepreg-unet", 2, output, extract_levels=levels, norm="none")
    fixed, moving = _pair(network, 2)
    features = network.body(torch.cat([fixed, moving], dim=1))
    assert [level for level, _ in network.body.taps] == list(levels)
    for level, (_, channels), tap in zip(levels, network.body.taps, features, strict=True):
        assert tap.shape == (2, channels, *(n // 2**level for n in fixed.shape[2:]))
        assert channels == 2 * 2**level


def test_levels_that_nobody_extracts_are_not_decoded() -> None:
    deep = _network("deepreg-unet", 2, OutputConfig(stride=4))
    assert len(deep.body.decoder) == 0
    half = VoxelMorph(VoxelMorphConfig())
    assert [step.conv.in_channels for step in half.body.decoder] == [64, 64, 64]
    full = VoxelMorph(VoxelMorphConfig(output=OutputConfig(stride=1)))
    assert [step.conv.in_channels for step in full.body.decoder] == [64, 64, 64, 48]


@BOTH
def test_a_convolution_of_what_was_doubled_needs_no_doubling(ndim: int) -> None:
    values = torch.rand(2, 3, *(3, 4, 2)[:ndim], dtype=torch.float64)
    weight = torch.rand(5, 3, *[3] * ndim, dtype=torch.float64)
    convolve = F.conv3d if ndim == 3 else F.conv2d
    doubled = F.interpolate(values, scale_factor=2, mode="nearest")
    expected = convolve(doubled, weight, padding=1)
    found = grown_convolution(values, weight, spreading(ndim).double())
    torch.testing.assert_close(found, expected)


@BOTH
@KINDS
def test_half_precision_gives_full_precision_fields(ndim: int, kind: str) -> None:
    torch.manual_seed(3)
    network = _network(kind, ndim, OutputConfig(stride=2))
    _shake(network)
    fixed, moving = _pair(network, ndim)
    expected = network(fixed, moving)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(fixed, moving)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()
    found.sum().backward()


@BOTH
@KINDS
def test_memory_order_does_not_matter(ndim: int, kind: str) -> None:
    order = torch.channels_last_3d if ndim == 3 else torch.channels_last
    network = _network(kind, ndim, OutputConfig(stride=2))
    _shake(network)
    fixed, moving = _pair(network, ndim)
    expected = network(fixed, moving)
    network.to(memory_format=order)
    found = network(*(image.contiguous(memory_format=order) for image in (fixed, moving)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@BOTH
@pytest.mark.parametrize(
    "backbone",
    [
        VoxelMorphBackbone(encoder=(2, 3), decoder=(3, 2, 2)),
        DeepRegUNetBackbone(channels_initial=2, depth=1),
    ],
)
def test_the_conditional_network_gives_a_probability_at_every_voxel(
    ndim: int, backbone: VoxelMorphBackbone | DeepRegUNetBackbone
) -> None:
    network = Conditional(ConditionalConfig(backbone=backbone), ndim, (1, 2))
    assert network.stride == 1
    size = tuple(network.multiple * n for n in (2, 3, 1)[:ndim])
    fixed, moving, label = (torch.rand(2, c, *size) for c in (1, 2, 1))
    found = network(fixed, moving, label)
    assert found.shape == label.shape
    assert 0 <= found.min() < found.max() <= 1
    assert not torch.equal(found, network(fixed, moving, 1 - label))


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 3, 4, 5, 6)])
def test_the_instance_norm_is_torchs(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape)
    theirs = nn.InstanceNorm3d(3) if len(shape) == 5 else nn.InstanceNorm2d(3)
    torch.testing.assert_close(InstanceNorm(3)(values), theirs(values))


def test_one_voxel_alone_is_its_own_mean() -> None:
    assert InstanceNorm(2)(torch.rand(1, 2, 1, 1, 1)).abs().max() < 1e-4


@BOTH
def test_skips_as_label_reg_has_them(ndim: int) -> None:
    """Against its equations, written out."""
    torch.manual_seed(1)
    options = {"skips": "label-reg", "norm": "none", "combine": "sum", "first_kernel": 3}
    network = _network("localnet", ndim, OutputConfig(stride=1), depth=1, **options)
    _shake(network)
    convolve = F.conv3d if ndim == 3 else F.conv2d
    grow = F.conv_transpose3d if ndim == 3 else F.conv_transpose2d

    def conv(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
        return convolve(values, layer.weight, layer.bias, padding=1)

    body, fixed_moving = network.body, torch.cat(_pair(network, ndim), dim=1)
    first, residual = body.encoder[0]
    h0 = conv(first.conv, fixed_moving).relu()
    r2 = (conv(residual.conv, conv(residual.first.conv, h0).relu()) + h0).relu()
    pooled = (F.max_pool3d if ndim == 3 else F.max_pool2d)(r2, 2)
    deep = conv(body.bottom[0].conv, pooled).relu()
    doubling, up = body.doublings[0], body.decoder[0]
    g0 = grow(deep, doubling.conv.weight, doubling.conv.bias, 2, 1, 1).relu()
    mode = "trilinear" if ndim == 3 else "bilinear"
    g0 = g0 + sum(F.interpolate(deep, scale_factor=2, mode=mode).chunk(2, dim=1))
    expected = (conv(up.conv, conv(up.first.conv, g0).relu()) + g0 + h0).relu()
    found, bottom = body(fixed_moving)
    torch.testing.assert_close(bottom, deep)
    torch.testing.assert_close(found, expected)


def test_label_reg_adds_its_skips() -> None:
    with pytest.raises(ValueError, match="adds its skips"):
        LocalNetConfig(skips="label-reg", concat_skip=True)
