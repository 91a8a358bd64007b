"""A network as an ONNX graph of any size, and the gate: the graph gives what torch gives."""

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from service.cores import usable_cores
from service.errors import ModelInvalidError
from service.registration.card import OutputKind, Provider
from service.registration.providers import PROVIDER_NAMES, start_session

OPSET = 20
# Largest difference between torch and onnxruntime: voxels, or a probability.
PARITY = 1e-4
# Where a graph is run besides the CPU's own provider, which comes last.
TRIED: tuple[Provider, ...] = ("cuda", "openvino")
# In multiples of the network's: another shape than any that parity is tested on.
EXAMPLE = (2, 3, 4)


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives: images of `ndim` axes, sizes that are multiples."""

    kind: OutputKind
    ndim: int
    multiple: int

    @property
    def inputs(self) -> list[str]:
        """Names of the images, which are their roles."""
        return ["fixed", "moving", *(["moving_label"] if self.kind == "warped_label" else [])]

    @property
    def output(self) -> str:
        """Name of what is given."""
        return "probability" if self.kind == "warped_label" else self.kind


DISCRETE = Signature("displacement", 3, 4)


def export_graph(
    network: nn.Module, signature: Signature, example: Sequence[int] = EXAMPLE
) -> bytes:
    """The network as an ONNX graph, any size along i, j and k that is a multiple.

    Args:
        network: On the CPU.
        signature: What it takes and gives.
        example: Sizes of the images that are traced, in multiples.

    Raises:
        ModelInvalidError: If torch cannot export it.
    """
    sizes = [signature.multiple * n for n in example[: signature.ndim]]
    images = tuple(torch.rand(1, 1, *sizes) for _ in signature.inputs)
    if getattr(network, "is_traced", False):
        return _traced(network, signature, images)
    axes = {2 + n: _axis(signature, name) for n, name in enumerate("ijk"[: signature.ndim])}
    for name in ("torch.onnx", "torch.utils._sympy.interp"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            images,
            dynamo=True,
            opset_version=OPSET,
            input_names=signature.inputs,
            output_names=[signature.output],
            dynamic_shapes=tuple(axes for _ in images),
            verbose=False,
        )
    if program is None:
        raise ModelInvalidError("The network could not be exported.")
    graph: bytes = without_traces(program.model_proto).SerializeToString(deterministic=True)
    return graph


def _traced(network: nn.Module, signature: Signature, images: tuple[torch.Tensor, ...]) -> bytes:
    """By torch's older exporter: minutes faster where many sizes follow from one another."""
    axes = dict(enumerate("ijk"[: signature.ndim], start=2))
    names = [*signature.inputs, signature.output]
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network.eval(),
            images,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=signature.inputs,
            output_names=[signature.output],
            dynamic_axes=dict.fromkeys(names, axes),
        )
        model = onnx.load(path)
    graph: bytes = without_traces(model).SerializeToString(deterministic=True)
    return graph


def _axis(signature: Signature, name: str) -> Any:
    size = torch.export.Dim(name, min=2, max=256)
    return size if signature.multiple == 1 else signature.multiple * size


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes: they name files of the machine that exported."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        tensor.ClearField("metadata_props")
    model.producer_version = ""
    return model


def on_cpu(network: nn.Module) -> nn.Module:
    """A copy in float32 for evaluation."""
    return copy.deepcopy(network).cpu().float().eval()


def parity(
    network: nn.Module, graph: bytes, shape: Sequence[int], signature: Signature = DISCRETE
) -> float:
    """Largest difference between torch and onnxruntime on smooth random images of a shape.

    In voxels for fields, by which the corners differ for an affine, plain for a probability.
    """
    return _difference(network, start_session(graph, "cpu", usable_cores()), shape, signature)


def _difference(
    network: nn.Module, session: Any, shape: Sequence[int], signature: Signature
) -> float:
    images = [_smooth_noise(shape, seed=n + 1) for n in range(len(signature.inputs))]
    images[1] = (images[1] + images[0]) / 2
    with torch.inference_mode():
        expected = network(*(torch.from_numpy(image) for image in images)).numpy()
    found = session.run(None, dict(zip(signature.inputs, images, strict=True)))[0]
    difference = np.abs(found - expected)
    if signature.kind == "affine":
        reach = np.array([*((n - 1) / 2 for n in shape), 1.0])
        difference = difference @ reach
    return float(difference.max())


def _smooth_noise(shape: Sequence[int], seed: int) -> np.ndarray:
    noise = torch.rand(
        1, 1, *(max(n // 4, 1) for n in shape), generator=torch.Generator().manual_seed(seed)
    )
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    smooth = nn.functional.interpolate(noise, size=tuple(shape), mode=mode)
    return np.ascontiguousarray(smooth.numpy())


def require_parity(
    network: nn.Module,
    graph: bytes,
    shapes: Sequence[Sequence[int]],
    signature: Signature = DISCRETE,
) -> dict[str, float]:
    """Differences by shape, on the CPU.

    Raises:
        ModelInvalidError: If one is above 1e-4.
    """
    session = start_session(graph, "cpu", usable_cores())  # one for all
    differences = {}
    for shape in shapes:
        difference = _difference(network, session, shape, signature)
        if not difference <= PARITY:
            sizes = " x ".join(map(str, shape))
            raise ModelInvalidError(
                f"On a grid of {sizes} voxels onnxruntime differs from torch by {difference:.2e}."
            )
        differences["x".join(map(str, shape))] = difference
    return differences


def verified_providers(
    network: nn.Module, graph: bytes, shapes: Sequence[Sequence[int]], signature: Signature
) -> tuple[Provider, ...]:
    """Where the graph was run here and gave what torch gives; the CPU is taken as passed."""
    installed = ort.get_available_providers()
    passed = [
        provider
        for provider in TRIED
        if PROVIDER_NAMES[provider] in installed
        and _agrees(network, graph, shapes, signature, provider)
    ]
    return (*passed, "cpu")


def _agrees(
    network: nn.Module,
    graph: bytes,
    shapes: Sequence[Sequence[int]],
    signature: Signature,
    provider: Provider,
) -> bool:
    """Whether one session, as the service keeps it, is right on every shape."""
    try:
        session = start_session(graph, provider, usable_cores())
        if PROVIDER_NAMES[provider] not in session.get_providers():
            return False
        return all(_difference(network, session, s, signature) <= PARITY for s in shapes)
    except Exception:  # onnxruntime's own have no common base; a provider that fails is not named
        return False
