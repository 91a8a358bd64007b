"""Write a network as a model folder: `python -m trainer.export discrete --out models`.

The graph must give what torch gives before anything is written.
"""

import argparse
import hashlib
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from service.errors import ModelInvalidError
from service.registration.card import (
    Card,
    Figure,
    InputTensor,
    Intensity,
    ModelGrid,
    OutputTensor,
    Training,
)
from trainer.networks.discrete import Discrete, DiscreteConfig

OPSET = 20
# Largest difference between torch and onnxruntime, in the output's units.
PARITY = 1e-4
# Where parity is tested besides the grid of a brain: not the shape that was traced.
SECOND_SHAPE = (60, 80, 120)
OWN_SHAPE = (84, 108, 84)


def discrete_card(config: DiscreteConfig, sha256: str, figures: tuple[Figure, ...]) -> Card:
    """What `models/discrete/1` promises."""
    configuration: dict[str, int | float | str | list[float]] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(config).items()
    }
    return Card(
        name="discrete",
        version="1",
        summary="Training-free discrete registration: MIND-SSC features, two searches over all "
        "displacements in a window, coupled-convex smoothing, both directions.",
        inputs=(InputTensor(name="fixed", role="fixed"), InputTensor(name="moving", role="moving")),
        output=OutputTensor(name="displacement", kind="displacement", units="voxels", stride=2),
        grid=ModelGrid(voxels=700_000, max_voxels=4_000_000, multiple=4),
        intensity=Intensity(rule="percentiles", low=0.5, high=99.5),
        providers=("cuda", "cpu"),
        opset=OPSET,
        sha256=sha256,
        modalities=("any",),
        anatomy=("any",),
        training=Training(
            method="none: there are no learned weights",
            configuration=configuration,
            data="No data went into this model.",
        ),
        evaluation=figures,
        licence="Apache-2.0",
    )


def export_graph(network: nn.Module, multiple: int) -> bytes:
    """The network as an ONNX graph of `fixed` and `moving`, any size that is a multiple."""
    example = (torch.rand(1, 1, 24, 32, 40), torch.rand(1, 1, 24, 32, 40))
    axes = {n: multiple * torch.export.Dim(name, min=2, max=256) for n, name in _AXES.items()}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["fixed", "moving"],
            output_names=["displacement"],
            dynamic_shapes=(axes, axes),
            verbose=False,
        )
    if program is None:
        raise ModelInvalidError("The network could not be exported.")
    graph: bytes = _without_traces(program.model_proto).SerializeToString(deterministic=True)
    return graph


_AXES = {2: "i", 3: "j", 4: "k"}


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes: they name files of the machine that exported."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        tensor.ClearField("metadata_props")
    model.producer_version = ""
    return model


def parity(network: nn.Module, graph: bytes, shape: tuple[int, int, int]) -> float:
    """Largest difference between torch and onnxruntime on smooth random images of a shape."""
    fixed, moving = _smooth_noise(shape, seed=1), _smooth_noise(shape, seed=2)
    moving = (moving + fixed) / 2
    with torch.inference_mode():
        expected = network(torch.from_numpy(fixed), torch.from_numpy(moving)).numpy()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(None, {"fixed": fixed, "moving": moving})[0]
    return float(np.abs(found - expected).max())


def _smooth_noise(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    noise = torch.rand(
        1, 1, *(n // 4 for n in shape), generator=torch.Generator().manual_seed(seed)
    )
    smooth = nn.functional.interpolate(noise, size=shape, mode="trilinear")
    return np.ascontiguousarray(smooth.numpy())


def require_parity(network: nn.Module, graph: bytes) -> dict[str, float]:
    """Differences by shape.

    Raises:
        ModelInvalidError: If one is above 1e-4.
    """
    differences = {}
    for shape in (OWN_SHAPE, SECOND_SHAPE):
        difference = parity(network, graph, shape)
        if not difference <= PARITY:
            raise ModelInvalidError(
                f"On a grid of {shape} voxels onnxruntime differs from torch by {difference:.2e}."
            )
        differences["x".join(map(str, shape))] = difference
    return differences


def write_model(out: Path, graph: bytes, card: Card, readme: str) -> Path:
    """`<out>/<name>/<version>/` with the graph, its card and its page."""
    folder = out / card.name / card.version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph)
    (folder / "card.json").write_text(card.written(), "utf-8")
    (folder / "README.md").write_text(readme, "utf-8")
    return folder


def readme_of(card: Card, differences: dict[str, float]) -> str:
    """The model's page."""
    lines = [f"# {card.name}/{card.version}", "", card.summary, ""]
    lines += [f"Modalities: {', '.join(card.modalities)}. Anatomy: {', '.join(card.anatomy)}."]
    lines += [f"{card.training.data} Licence: {card.licence}.", ""]
    if card.evaluation:
        lines += ["| data | pairs | metric | before | after | how |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {f.data} | {f.pairs} | {f.metric} | {f.before:.3f} | {f.after:.3f} | {f.how} |"
            for f in card.evaluation
        ]
        lines += [""]
    worst = ", ".join(f"{value:.0e} on {shape}" for shape, value in differences.items())
    lines += [f"Largest difference between torch and onnxruntime, in voxels: {worst}.", ""]
    lines += [f"Made by `python -m trainer.export {card.name}`.", ""]
    return "\n".join(lines)


def export_discrete(out: Path, figures: tuple[Figure, ...] = ()) -> Path:
    """Export, check and write the discrete model."""
    config = DiscreteConfig()
    network = Discrete(config).eval()
    graph = export_graph(network, multiple=4)
    differences = require_parity(network, graph)
    card = discrete_card(config, hashlib.sha256(graph).hexdigest(), figures)
    return write_model(out, graph, card, readme_of(card, differences))


def _figures(path: Path | None) -> tuple[Figure, ...]:
    if path is None:
        return ()
    lines: list[str] = path.read_text("utf-8").splitlines()
    return tuple(Figure.model_validate_json(line) for line in lines if line)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.export", description=__doc__)
    parser.add_argument("network", choices=["discrete"])
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder of models")
    parser.add_argument("--figures", type=Path, help="evaluation figures, one JSON object a line")
    chosen: Any = parser.parse_args(arguments)
    folder = export_discrete(chosen.out, _figures(chosen.figures))
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
