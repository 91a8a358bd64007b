"""`warpline evaluate`: how good a model is, measured by the pipeline that serves it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.shared_options import Json
from service.cli.trainer_process import options, run_trainer
from service.registration.options import InitialiseChoice


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="NAME, NAME/VERSION, NAME@ALIAS, or the folder of a model or of a training.",
            show_default=False,
        ),
    ],
    config: Annotated[
        list[Path] | None,
        typer.Argument(
            help="YAML files that name the data; a training's folder brings its own.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the evaluation.")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="CSV of pairs instead of a configuration: columns fixed, moving, fixed_labels, "
            "moving_labels, fixed_points, moving_points, ..., name; paths relative to it.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Another model, measured on the same pairs and compared.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data folder instead of `data.root`.", exists=True)
    ] = None,
    split: Annotated[
        Literal["train", "valid", "test"] | None, typer.Option(help="Which pairs.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Which fold is the test, where splits are folds.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Repeatable.")
    ] = None,
    refine: Annotated[
        Literal["none", "fast", "best"] | None,
        typer.Option(help="The service's refinement after the network; by default none."),
    ] = None,
    initialise: Annotated[
        InitialiseChoice, typer.Option(help="The alignment before it; `model`: the card's.")
    ] = "model",
    shown: Annotated[
        int | None, typer.Option(min=0, help="Worst and best pairs that are pictured, each.")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder of models.", exists=True, file_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a model on pairs, as the service would register them.

    Writes metrics.csv per pair and label, statistics, evaluation.json, and evaluation.html with
    the worst and best pairs:

        warpline evaluate discrete --pairs pairs.csv --out evaluation

    Two models on the same pairs:

        warpline evaluate my-training --against discrete --out evaluation
    """
    line = [_place(model, models), *map(str, config or [])]
    against = None if against is None else _place(against, models)
    line += options(out=out, pairs=pairs, against=against, data=data, split=split, fold=fold)
    line += options(set=change, refine=refine, initialise=initialise, shown=shown)
    raise typer.Exit(run_trainer("trainer.evaluation.command", [*line, *options(json=as_json)]))


def _place(model: str, root: Path | None) -> str:
    """A folder as it is; a reference as the folder that it stands for on this machine."""
    if Path(model).is_dir():
        return model
    from service.cli.models_here import engines_here
    from service.registration.models_folder import ModelFolder
    from service.settings import Settings

    if root is not None:
        return str(ModelFolder(root).folder(model))
    with engines_here(Settings()) as models:
        return str(models.folder(model))
