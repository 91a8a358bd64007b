"""Write a network as a model folder: `python -m trainer.export discrete --out models`.

In place of `discrete`, the folder of a training exports its best weights, with figures that were
measured elsewhere. The graph must give what torch gives before anything is written.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from safetensors.torch import load_file
from torch import nn

from service.registration.card import (
    IMAGE_AXES,
    MATRIX_AXES,
    SLICE_AXES,
    Card,
    Figure,
    InputTensor,
    Intensity,
    ModelGrid,
    OutputTensor,
    Training,
)
from trainer.checkpoint import BEST, checkpoints, load_weights
from trainer.config import TrainConfig, read_config
from trainer.config.matching_networks import MetricConfig
from trainer.export_graph import (
    DISCRETE,
    OPSET,
    PARITY,
    Signature,
    export_graph,
    on_cpu,
    parity,
    require_parity,
    verified_providers,
)
from trainer.model_folder import ModelExport
from trainer.networks.build import build_network
from trainer.networks.discrete import Discrete, DiscreteConfig

__all__ = ["PARITY", "export_discrete", "export_model", "parity", "prepare_export"]

# Where the discrete model's parity is tested: the grid of a brain, and another.
DISCRETE_SHAPES = ((84, 108, 84), (60, 80, 120))
# About the voxels along an axis where a configuration does not say how large images are.
USUAL_SIZES = {3: (80, 96, 64), 2: (160, 192)}
# The configuration that a training keeps in its folder.
CONFIG = "config.yaml"
KINDS = {"globalnet": "affine", "conditional": "warped_label"}


def prepare_export(
    network: nn.Module,
    config: TrainConfig,
    *,
    name: str | None = None,
    version: str = "1",
    shape: Sequence[int] | None = None,
) -> ModelExport:
    """The graph of a trained network, checked against torch, and its card without figures.

    Parity is tested on the card's own grid and on a second shape.

    Args:
        network: With its trained weights, on any device; it is not changed.
        config: What it was trained by.
        name: Of the model, by default the configuration's.
        version: Of the model.
        shape: How large images are on the model grid, where the configuration does not say.

    Raises:
        ModelInvalidError: If the graph differs from torch by over 1e-4 of a voxel.
    """
    network, signature = on_cpu(network), signature_of(network, config)
    graph = export_graph(network, signature)
    own, second = parity_shapes(config, signature, shape)
    differences = require_parity(network, graph, (own, second), signature)
    card = Card(
        name=name or config.name,
        version=version,
        summary=config.card.summary or _summary(config),
        inputs=_inputs(signature),
        output=_output(network, config, signature),
        grid=config.data.grid.rule(signature.multiple),
        intensity=config.data.intensity,
        moving_intensity=config.data.moving_intensity,
        providers=verified_providers(network, graph, (own, second), signature),
        opset=OPSET,
        sha256=hashlib.sha256(graph).hexdigest(),
        modalities=config.card.modalities,
        anatomy=config.card.anatomy,
        training=Training(
            method=_method(config),
            configuration=publishable(config),
            data=config.card.data_statement,
        ),
        licence=config.card.licence,
        initialise=config.data.initialise,
        accept=config.card.accept or _accept(config),
        spared_from=config.card.spared_from,
    )
    return ModelExport(card, graph, differences, _yaml(publishable(config)))


def export_model(
    network: nn.Module,
    config: TrainConfig,
    out: Path,
    *,
    name: str | None = None,
    version: str = "1",
    figures: tuple[Figure, ...] = (),
    shape: Sequence[int] | None = None,
) -> Path:
    """Export, check and write a trained network as `<out>/<name>/<version>/`; gives that folder.

    Raises:
        ModelInvalidError: If the graph differs from torch.
        ConflictError: If there is such a version already.
    """
    export = prepare_export(network, config, name=name, version=version, shape=shape)
    return export.write(out, figures)


def signature_of(network: nn.Module, config: TrainConfig) -> Signature:
    """What the network's graph takes and gives."""
    kind: Any = KINDS.get(config.network.kind)
    if kind is None:
        kind = config.network.output.kind  # type: ignore[union-attr]
    return Signature(kind, config.data.grid.ndim, int(network.multiple))  # type: ignore[arg-type]


def parity_shapes(
    config: TrainConfig, signature: Signature, shape: Sequence[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The card's own grid, padded as the service will, and one of another shape."""
    multiple = signature.multiple
    wanted = shape or config.data.grid.shape or USUAL_SIZES[signature.ndim]
    counts = [-(-n // multiple) for n in wanted]
    other = [counts[-1] + 1, *counts[:-1]]
    if other == counts:
        other[-1] += 1
    own, second = ([multiple * n for n in some] for some in (counts, other))
    return tuple(own), tuple(second)


def publishable(config: TrainConfig) -> dict[str, Any]:
    """The configuration but for where the data lie: names of files may name a patient."""
    document: dict[str, Any] = config.model_dump(mode="json")
    for private in ("root", "rows"):
        document["data"].pop(private, None)
    return document


def _inputs(signature: Signature) -> tuple[InputTensor, ...]:
    axes = IMAGE_AXES if signature.ndim == 3 else SLICE_AXES
    return tuple(
        InputTensor.model_validate({"name": role, "role": role, "axes": axes})
        for role in signature.inputs
    )


def _output(network: nn.Module, config: TrainConfig, signature: Signature) -> OutputTensor:
    axes = IMAGE_AXES if signature.ndim == 3 else SLICE_AXES
    if signature.kind == "affine":
        return OutputTensor(name=signature.output, kind=signature.kind, axes=MATRIX_AXES)
    output = getattr(config.network, "output", None)
    return OutputTensor(
        name=signature.output,
        kind=signature.kind,
        axes=axes,
        stride=int(network.stride),  # type: ignore[arg-type]
        integration_steps=7 if output is None else output.steps,
    )


def _accept(config: TrainConfig) -> Literal["if more alike", "always"]:
    """Image similarity is no judge of a network that did not learn from it."""
    by_images = any(loss.weight > 0 for loss in config.losses.image)
    return "if more alike" if by_images else "always"


def _summary(config: TrainConfig) -> str:
    what = {"affine": "an affine", "warped_label": "the fixed label"}
    kind = KINDS.get(config.network.kind) or config.network.output.kind  # type: ignore[union-attr]
    return f"A trained {config.network.kind} network that gives {what.get(kind, f'a {kind}')}."


def _method(config: TrainConfig) -> str:
    """Which losses, in words."""
    terms = [
        f"{getattr(loss, 'kind', 'loss')} {loss.weight:g}"
        for group in config.losses.groups().values()
        for loss in group
        if loss.weight > 0
    ]
    return f"{config.network.kind}, {config.data.pairing} pairs; losses: {', '.join(terms)}"


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def discrete_card(config: DiscreteConfig, sha256: str, figures: tuple[Figure, ...]) -> Card:
    """What `models/discrete/1` promises."""
    configuration = {
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
        spared_from=0.5,
    )


def export_discrete(out: Path, figures: tuple[Figure, ...] = ()) -> Path:
    """Export, check and write the discrete model."""
    config = DiscreteConfig()
    network = Discrete(config).eval()
    graph = export_graph(network, DISCRETE, (6, 8, 10))
    differences = require_parity(network, graph, DISCRETE_SHAPES)
    card = discrete_card(config, hashlib.sha256(graph).hexdigest(), figures)
    return ModelExport(card, graph, differences).write(out, figures)


def export_training(
    folder: Path,
    out: Path,
    figures: tuple[Figure, ...] = (),
    *,
    name: str | None = None,
    version: str = "1",
    method: str | None = None,
) -> Path:
    """Export, check and write the best weights of a training.

    Args:
        folder: Of the training.
        out: Folder of models.
        figures: What it reached.
        name: Of the model, by default the training's.
        version: Of the model.
        method: How it was trained, where that is more than the training can know.
    """
    config = read_config([folder / CONFIG])
    network = build_network(config.network, config.data.grid.ndim)
    load_weights(folder / "checkpoints" / BEST, network)
    export = prepare_export(network, config, name=name, version=version)
    if isinstance(config.network, MetricConfig) and not checkpoints(folder / "checkpoints"):
        export = replace(export, card=_fitted(export.card, folder))
    if method is not None:
        export = replace(export, card=_told(export.card, method))
    return export.write(out, figures)


def _fitted(card: Card, folder: Path) -> Card:
    """Says that no step was trained: the metric comes from sums over pairs."""
    pairs = int(load_file(folder / "metric.safetensors")["pairs"][0])
    method = (
        f"a metric fitted in one pass to {pairs} synthetic pairs, in about half a minute of one "
        f"core: `python -m trainer.metric_fit {card.name} --out RUN --pairs {pairs}`, then "
        "`python -m trainer.export RUN`. More pairs go on from there. No step of gradient descent "
        "was made; `warpline train train.yaml --start-from RUN/checkpoints/best.safetensors` makes "
        "them, with the losses below, on a GPU where there is one. `firmness` was chosen among "
        "five settings by looking at real pairs, which are among those of the figures"
    )
    return _told(card, method)


def _told(card: Card, method: str) -> Card:
    return card.model_copy(update={"training": card.training.model_copy(update={"method": method})})


def _figures(path: Path | None) -> tuple[Figure, ...]:
    if path is None:
        return ()
    lines: list[str] = path.read_text("utf-8").splitlines()
    return tuple(Figure.model_validate_json(line) for line in lines if line)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.export", description=__doc__)
    parser.add_argument("network", help="`discrete`, or the folder of a training")
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder of models")
    parser.add_argument("--name", help="of the model, by default the training's")
    parser.add_argument("--version", default="1", help="of the model")
    parser.add_argument("--method", help="how it was trained, for its card")
    parser.add_argument("--figures", type=Path, help="evaluation figures, one JSON object a line")
    chosen: Any = parser.parse_args(arguments)
    figures = _figures(chosen.figures)
    is_shipped = chosen.network == "discrete"
    if is_shipped:
        folder = export_discrete(chosen.out, figures)
    else:
        told = {key: getattr(chosen, key) for key in ("name", "version", "method")}
        folder = export_training(Path(chosen.network), chosen.out, figures, **told)
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
