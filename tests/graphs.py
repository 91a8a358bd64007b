"""Models made by hand, whose output is known: an ONNX graph of a few nodes, and its card."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from service.checksums import sha256_of
from service.registration.card import (
    IMAGE_AXES,
    MATRIX_AXES,
    SLICE_AXES,
    Card,
    InputTensor,
    Intensity,
    ModelGrid,
    OutputTensor,
    Training,
)

FLOAT32 = onnx.TensorProto.FLOAT


def image(name: str, ndim: int, channels: int = 1) -> Any:
    """An image of any size."""
    return helper.make_tensor_value_info(
        name, FLOAT32, [1, channels, *(f"{name}_{axis}" for axis in "ijk"[:ndim])]
    )


def constant(name: str, values: np.ndarray) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def written(path: Path, nodes: list[Any], ends: tuple[list[Any], Any], values: list[Any]) -> Path:
    """The graph on disk; `ends` are its inputs and its output."""
    graph = helper.make_graph(nodes, "known", ends[0], [ends[1]], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def affine_graph(path: Path, matrix: np.ndarray) -> Path:
    """Gives one matrix (d, d + 1) whatever the images are."""
    ndim = len(matrix)
    nodes = [
        helper.make_node("Add", ["fixed", "moving"], ["both"]),
        helper.make_node("ReduceMean", ["both"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["matrix", "nothing"], ["affine"]),
    ]
    out = helper.make_tensor_value_info("affine", FLOAT32, [1, ndim, ndim + 1])
    inputs = [image("fixed", ndim), image("moving", ndim)]
    values = [constant("zero", np.zeros(())), constant("matrix", np.asarray(matrix)[None])]
    return written(path, nodes, (inputs, out), values)


def label_graph(path: Path, weights: tuple[float, float, float], ndim: int = 3) -> Path:
    """probability = a weighted sum of fixed, moving and moving_label."""
    names = ("fixed", "moving", "moving_label")
    nodes = [helper.make_node("Mul", [name, f"w_{name}"], [f"part_{name}"]) for name in names] + [
        helper.make_node("Sum", [f"part_{name}" for name in names], ["probability"])
    ]
    values = [constant(f"w_{name}", np.array(w)) for name, w in zip(names, weights, strict=True)]
    inputs = [image(name, ndim) for name in names]
    return written(path, nodes, (inputs, image("probability", ndim)), values)


def displacement_graph(path: Path, per_axis: tuple[float, ...]) -> Path:
    """displacement = mean-pooled fixed image (2**d) times a constant for each axis."""
    ndim = len(per_axis)
    nodes = [
        helper.make_node("Mul", ["moving", "zero"], ["nothing"]),
        helper.make_node("Add", ["fixed", "nothing"], ["both"]),
        helper.make_node(
            "AveragePool", ["both"], ["pooled"], kernel_shape=[2] * ndim, strides=[2] * ndim
        ),
        helper.make_node("Mul", ["pooled", "scale"], ["displacement"]),
    ]
    scale = np.array(per_axis).reshape(1, ndim, *[1] * ndim)
    inputs = [image("fixed", ndim), image("moving", ndim)]
    values = [constant("zero", np.zeros(())), constant("scale", scale)]
    return written(path, nodes, (inputs, image("displacement", ndim, ndim)), values)


def card_of(graph: Path, kind: str, ndim: int = 3, **changes: object) -> Card:
    """The card of a graph made here."""
    axes = IMAGE_AXES if ndim == 3 else SLICE_AXES
    roles = ["fixed", "moving", *(["moving_label"] if kind == "warped_label" else [])]
    names = {"affine": "affine", "warped_label": "probability"}
    output = OutputTensor.model_validate(
        {
            "name": names.get(kind, "displacement"),
            "kind": kind,
            "axes": MATRIX_AXES if kind == "affine" else axes,
            "stride": 2 if kind in ("displacement", "velocity") else 1,
        }
    )
    fields = {
        "name": "known",
        "version": "1",
        "summary": "For tests.",
        "inputs": [InputTensor.model_validate({"name": r, "role": r, "axes": axes}) for r in roles],
        "output": output,
        "grid": ModelGrid(spacing_mm=2.0, multiple=4),
        "intensity": Intensity(rule="none"),
        "providers": ("cpu",),
        "opset": 20,
        "sha256": sha256_of(graph),
        "modalities": ("any",),
        "anatomy": ("any",),
        "training": Training(method="none", configuration={}, data="none"),
        "licence": "Apache-2.0",
    }
    return Card.model_validate(fields | changes)


def put_model(root: Path, graph: Path, card: Card) -> None:
    """Make the graph and its card a version in a folder of models."""
    folder = root / card.name / card.version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph.read_bytes())
    (folder / "card.json").write_text(card.written(), "utf-8")
