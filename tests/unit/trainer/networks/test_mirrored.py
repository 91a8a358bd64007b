"""Mirrored images through mirrored weights give the mirrored field.

Where what a cell sees is centred beside the place that its vector is put at, be it by half a voxel,
the two differ: the one is off to the right, the other to the left.
"""

from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch")

from pydantic import TypeAdapter  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from trainer.config import NetworkConfig  # noqa: E402
from trainer.networks.blocks import Doubling  # noqa: E402
from trainer.networks.build import build_network  # noqa: E402
from trainer.networks.cost_volume import displacements  # noqa: E402
from trainer.networks.dense import DenseNetwork  # noqa: E402
from trainer.networks.globalnet import GlobalNet  # noqa: E402
from trainer.networks.matching_pyramid import MatchingPyramid  # noqa: E402
from trainer.networks.metric import AROUND, FittedSearch  # noqa: E402
from trainer.networks.mind import CHANNELS, EDGES  # noqa: E402
from trainer.networks.pyramid import Pyramid  # noqa: E402
from trainer.spatial import affine_displacement, integrate, upsample  # noqa: E402

ADAPTER = TypeAdapter(NetworkConfig)
CONVOLUTIONS = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
VOXELMORPH = {"kind": "voxelmorph", "encoder": [4, 6], "decoder": [6, 4, 4]}
FLAT = [
    VOXELMORPH | {"output": {"stride": 1}},
    VOXELMORPH | {"output": {"stride": 2}},
    VOXELMORPH | {"output": {"control_spacing": 4}},
    {"kind": "deepreg-unet", "channels_initial": 4, "depth": 2, "output": {"stride": 4}},
    {"kind": "globalnet", "channels_initial": 4, "depth": 2, "encoder": "resnet"},
    {"kind": "globalnet", "channels_initial": 4, "depth": 2, "freedom": "rigid"},
    {"kind": "correlation", "channels": [4], "features": 5, "radius": 1},
    {"kind": "correlation", "channels": [4, 6], "radius": 1, "output": {"stride": 1}},
    {"kind": "pdd", "channels": [4, 6], "features": 5, "radius": 1, "control_stride": 12},
    {"kind": "pdd", "channels": [4], "features": 5, "radius": 1, "control_stride": 6, "warps": 2},
    {"kind": "pyramid", "channels": [4, 6, 8], "estimator": [6]},
    {"kind": "pyramid", "channels": [4, 6], "estimator": [6], "output": {"stride": 1}},
    {"kind": "pyramid", "channels": [4, 6, 8], "output": {"kind": "velocity", "stride": 4}},
]  # fmt: skip
# Their doublings are half a voxel off, as those are that they promise to be like.
U_NETS = [
    {"kind": "localnet", "channels_initial": 4, "depth": 2, "output": {"stride": 1}},
    {"kind": "localnet", "channels_initial": 4, "depth": 2, "skips": "label-reg"},
    {"kind": "deepreg-unet", "channels_initial": 4, "depth": 2, "pooling": False},
    {"kind": "deepreg-unet", "channels_initial": 4, "depth": 2, "concat_skip": True},
]
SOLID = [{"kind": "metric"}, {"kind": "matching-pyramid", "widths": [4, 4]}, FLAT[0], FLAT[-3]]


def _network(options: dict, ndim: int) -> nn.Module:
    """Of random weights, the last ones too; its doublings centred."""
    torch.manual_seed(4)
    network = build_network(ADAPTER.validate_python(options), ndim)
    for part in network.modules():
        if isinstance(part, Doubling):
            part.conv = _centred(part.conv)
    if not isinstance(network, GlobalNet):  # whose last layer is one of float32
        network = network.double()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1 and not isinstance(network, FittedSearch):
                weight.copy_(torch.randn(weight.shape) / weight[0].numel() ** 0.5)
            weight.add_(0.05 * torch.randn(weight.shape))
    return network


def _centred(conv: nn.Module) -> nn.Module:
    """Of four voxels in place of three, so that a cell is spread about its own middle."""
    return type(conv)(conv.in_channels, conv.out_channels, 4, stride=2, padding=1)


def _field(network: nn.Module, options: dict, images: Sequence[Tensor]) -> Tensor:
    """At every voxel, as the service makes it of the network's output."""
    size = images[0].shape[2:]
    with torch.no_grad():
        found = network(*images)
        if isinstance(network, GlobalNet):
            return affine_displacement(found, size)
        if ADAPTER.validate_python(options).output.kind == "velocity":
            found = integrate(found, stride=network.stride)
        return upsample(found, network.stride, size)


def _turned(values: Tensor, axis: int) -> Tensor:
    """The component along the axis turned round, (b, d, ...)."""
    signs = torch.ones(values.shape[1], dtype=values.dtype)
    signs[axis] = -1
    return values * signs.reshape(-1, *[1] * (values.ndim - 2))


def _mirror(network: nn.Module, axis: int) -> None:
    """Make it see from right to left what it saw from left to right."""
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, CONVOLUTIONS):
                part.weight.copy_(part.weight.flip(axis + 2))
        if isinstance(network, DenseNetwork):
            for layer in network.extraction.layers:
                _turn_outputs(layer.conv, axis)
        elif isinstance(network, GlobalNet):
            _mirror_matrix(network, axis)
        elif isinstance(network, Pyramid):
            _mirror_estimators(network, axis)
        elif isinstance(network, FittedSearch):
            _mirror_metric(network, axis)


def _turn_outputs(layer: nn.Module, axis: int) -> None:
    layer.weight[axis] *= -1
    layer.bias[axis] *= -1


def _mirror_matrix(network: GlobalNet, axis: int) -> None:
    """M and t of the mirrored world; moments about its centre; turns are a pseudovector."""
    ndim, matrix = network.ndim, network.matrix
    matrix.weight.reshape(len(matrix.weight), ndim + 1, -1)[:, axis + 1] *= -1
    signs = torch.ones(ndim, dtype=matrix.weight.dtype)
    signs[axis] = -1
    rest = torch.outer(signs, signs).flatten()
    if network.rigid:
        rest = -signs if ndim == 3 else -signs.new_ones(1)
    every = torch.cat([signs, rest])
    matrix.weight *= every[:, None]
    matrix.bias *= every


def _window(radius: int, ndim: int, axis: int) -> Tensor:
    """Where the mirror image of each displacement of a window stands."""
    steps = displacements(radius, ndim)
    mirrored = steps.clone()
    mirrored[:, axis] *= -1
    return torch.cdist(mirrored, steps).argmin(dim=1)


def _mirror_estimators(network: Pyramid, axis: int) -> None:
    for estimator in network.estimators:
        _turn_outputs(estimator.out, axis)
        if estimator.radius is not None:
            first = estimator.layers[0][0].weight
            swap = _window(estimator.radius, first.ndim - 2, axis)
            first[:, -len(swap) :] = first[:, -len(swap) :][:, swap]


def _mirror_metric(network: FittedSearch, axis: int) -> None:
    own = _edges(axis)
    around = [AROUND.index(tuple(-n if a == axis else n for a, n in enumerate(step)))
              for step in AROUND]  # fmt: skip
    of_around = torch.cat([own + CHANNELS * place for place in around])
    for weights, leading in ((network.fine, 1), (network.coarse, 2)):
        parts = [own + CHANNELS * n for n in range(leading)]
        parts += [of_around + CHANNELS * leading, own + CHANNELS * (leading + len(AROUND))]
        weights.copy_(weights[:, torch.cat(parts)])
    if isinstance(network, MatchingPyramid):
        for level in network.levels:
            _mirror_level(level, axis)


def _edges(axis: int) -> Tensor:
    """Where the mirror image of each pair of neighbours stands among MIND-SSC's channels."""
    sets = [frozenset(edge) for edge in EDGES]
    turned = [
        frozenset(tuple(-n if a == axis else n for a, n in enumerate(end)) for end in edge)
        for edge in EDGES
    ]
    return torch.tensor([sets.index(edge) for edge in turned])


def _mirror_level(level: nn.Module, axis: int) -> None:
    """Its inputs: chances, choice (3), best (1), bend (3), features."""
    first = level.layers[0].weight
    swap = _window(level.radius, 3, axis)
    first[:, : len(swap)] = first[:, swap]
    for at in (len(swap) + axis, len(swap) + 4 + axis):
        first[:, at] *= -1


def _require_mirrored(options: dict, size: Sequence[int], axis: int) -> None:
    generator = torch.Generator().manual_seed(3)
    network = _network(options, len(size))
    dtype = next(network.parameters()).dtype
    images = [torch.rand(1, 1, *size, generator=generator).to(dtype) for _ in range(2)]
    field = _field(network, options, images)
    _mirror(network, axis)
    found = _field(network, options, [image.flip(axis + 2) for image in images])
    expected = _turned(field.flip(axis + 2), axis)
    assert field.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(field.abs().max()))


@pytest.mark.parametrize("options", FLAT + U_NETS)
@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_slices_have_the_mirrored_field(options: dict, axis: int) -> None:
    multiple = build_network(ADAPTER.validate_python(options), 2).multiple
    _require_mirrored(options, [3 * multiple, 4 * multiple], axis)


@pytest.mark.parametrize("options", SOLID)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirrored_volumes_have_the_mirrored_field(options: dict, axis: int) -> None:
    _require_mirrored(options, [16, 24, 32], axis)
