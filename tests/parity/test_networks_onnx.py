"""What is exported gives in onnxruntime what it gives in torch, on sizes that were not traced."""

import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from trainer import spatial  # noqa: E402
from trainer.config.networks import (  # noqa: E402
    ConditionalConfig,
    DeepRegUNetConfig,
    GlobalNetConfig,
    LocalNetConfig,
    OutputConfig,
    VoxelMorphBackbone,
    VoxelMorphConfig,
)
from trainer.networks.conditional import Conditional  # noqa: E402
from trainer.networks.deepreg import UNet  # noqa: E402
from trainer.networks.globalnet import GlobalNet  # noqa: E402
from trainer.networks.voxelmorph import VoxelMorph  # noqa: E402

SMALL = {"channels_initial": 2, "depth": 2}
TINY = VoxelMorphConfig(encoder=(3, 4), decoder=(4, 3, 3))
POINTS = OutputConfig(stride=2, control_spacing=8)

CASES = {
    "voxelmorph": (TINY, VoxelMorph, 2),
    "control points": (TINY.model_copy(update={"output": POINTS}), VoxelMorph, 2),
    "deepreg-unet": (DeepRegUNetConfig(**SMALL, norm="layer"), UNet, 2),
    "localnet": (LocalNetConfig(**SMALL, output=OutputConfig(stride=1)), UNet, 2),
    "globalnet": (GlobalNetConfig(**SMALL), GlobalNet, 2),
    "rigid": (GlobalNetConfig(**SMALL, encoder="resnet", freedom="rigid"), GlobalNet, 2),
    "conditional": (
        ConditionalConfig(backbone=VoxelMorphBackbone(encoder=(3,), decoder=(3, 3))),
        Conditional,
        3,
    ),
}


def shaken(network: nn.Module) -> nn.Module:
    """Every weight moved: an untrained network is the identity, which hides what it is made of."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return network.eval()


def exported(network: nn.Module, example: Sequence[Tensor], multiple: int) -> bytes:
    names = [f"image{n}" for n in range(len(example))]
    sizes = {
        axis: multiple * torch.export.Dim(f"n{axis}", min=2, max=64)
        for axis in range(2, example[0].ndim)
    }
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            tuple(example),
            dynamo=True,
            opset_version=20,
            input_names=names,
            dynamic_shapes=(sizes,) * len(example),
            verbose=False,
        )
    return program.model_proto.SerializeToString()


def images(count: int, shape: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 1, *shape, generator=generator) for _ in range(count)]


def largest_difference(network: nn.Module, graph: bytes, inputs: Sequence[Tensor]) -> float:
    with torch.inference_mode():
        expected = network(*inputs).numpy()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    feed = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
    found = session.run(None, feed)[0]
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0.01
    return float(np.abs(found - expected).max())


# An export takes seconds, so not every kind is exported in both.
@pytest.mark.parametrize(
    ("case", "ndim"),
    [
        ("voxelmorph", 3),
        ("control points", 2),
        ("deepreg-unet", 3),
        ("localnet", 2),
        ("globalnet", 3),
        ("rigid", 2),
        ("conditional", 2),
    ],
)
def test_onnxruntime_equals_torch(case: str, ndim: int) -> None:
    config, make, inputs = CASES[case]
    network = shaken(make(config, ndim))
    multiple = network.multiple
    graph = exported(
        network, images(inputs, (2 * multiple, 3 * multiple, 4 * multiple)[:ndim]), multiple
    )
    for shape in [(3, 2, 4), (2, 5, 2)]:
        size = tuple(multiple * n for n in shape[:ndim])
        assert largest_difference(network, graph, images(inputs, size)) < 1e-4


class _Spatial(nn.Module):
    """All of `trainer.spatial` that a network may want inside its graph."""

    def forward(self, image: Tensor, velocity: Tensor) -> Tensor:
        ndim = image.ndim - 2
        matrix = torch.eye(ndim, ndim + 1)[None] * 0.9 + 0.05
        affine = spatial.affine_displacement(matrix, image.shape[2:])
        field = spatial.integrate(velocity.expand(-1, ndim, *velocity.shape[2:]), 3)
        field = spatial.compose(affine, spatial.upsample(field, 1, image.shape[2:]))
        return spatial.warp(image, field) + spatial.jacobian_determinant(field)[:, None]


def test_sampling_is_exported_with_free_sizes() -> None:
    network = _Spatial()
    graph = exported(network, images(2, (6, 8, 10)), 1)
    for shape in [(7, 9, 6), (12, 5, 8)]:
        assert largest_difference(network, graph, images(2, shape)) < 1e-4
