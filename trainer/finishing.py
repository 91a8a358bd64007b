"""After the last step: the best weights as a model, measured by the service's own pipeline."""

import shutil
from pathlib import Path

from torch import nn

from service.registration.models_folder import ModelFolder
from trainer.config import TrainConfig
from trainer.data.dataset import open_acquired
from trainer.evaluate import Evaluation, EvaluationOptions, ServedModel, evaluate
from trainer.evaluation.cases import cases_of
from trainer.export import prepare_export
from trainer.model_folder import ModelExport
from trainer.monitor import Monitor

MODELS, EVALUATION, UNMEASURED = "model", "evaluation", "unmeasured"


def finish(
    config: TrainConfig,
    network: nn.Module,
    out: Path,
    monitor: Monitor,
    *,
    version: str = "1",
    against: ServedModel | None = None,
) -> Path:
    """Export a trained network, evaluate it, and write its model folder with the figures.

    Writes `<out>/model/<name>/<version>/` and, if the split of `evaluate` has pairs,
    `<out>/evaluation/`.

    Args:
        config: What was trained.
        network: Its best weights.
        out: The training's folder.
        monitor: Told the stages `export` and `evaluate`.
        version: Of the model.
        against: A model to compare with on the same pairs.

    Raises:
        ModelInvalidError: If the exported graph differs from torch.
    """
    monitor.tell("stage", stage="export")
    export = prepare_export(network, config, version=version)
    found = _evaluate(config, export, out, monitor, against)
    # Of an earlier end of this training, which has gone on since.
    shutil.rmtree(out / MODELS, ignore_errors=True)
    return export.write(out / MODELS, found.figures if found else ())


def _evaluate(
    config: TrainConfig,
    export: ModelExport,
    out: Path,
    monitor: Monitor,
    against: ServedModel | None,
) -> Evaluation | None:
    """Measure the exported graph; None where the split has no pairs."""
    options = config.evaluate
    if config.data.format == "none":
        return None
    pairs = open_acquired(
        config.data, options.split, multiple=1, cache=out / "cache", seed=config.seed
    )
    if not len(pairs):
        return None
    monitor.tell("stage", stage="evaluate")
    unmeasured = export.write(out / UNMEASURED)
    models = ModelFolder(out / UNMEASURED)
    try:
        return evaluate(
            ServedModel(models, f"{export.card.name}/{export.card.version}"),
            cases_of(pairs),
            out / EVALUATION,
            against=against,
            options=EvaluationOptions(
                refine=options.refine,
                labels=config.data.label_values,
                shown=options.shown,
                data=f"{options.split} pairs of the training's data",
            ),
        )
    finally:
        shutil.rmtree(unmeasured.parents[1])
