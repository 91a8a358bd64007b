"""`warpline crossval`: every fold trained and measured, and one table over all of them."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.shared_options import Json
from service.cli.trainer_process import options, run_trainer


def crossval(
    config: Annotated[
        list[str],
        typer.Argument(
            help="YAML files or names of recipes; later ones are laid over earlier ones.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of all folds.")],
    data: Annotated[
        Path | None, typer.Option(help="Data folder instead of `data.root`.", exists=True)
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="How many, instead of the configuration's.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep folds that are done; go on with the others.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train and evaluate each fold, one after the other; mean ± deviation over the folds.

        warpline crossval config.yaml --out folds

    The configuration's `data.splits` must be folds. Writes crossval.csv and crossval.json.
    """
    from trainer.config.recipes import found

    line = [*map(str, found(config)), *options(out=out, data=data, folds=folds, set=change)]
    line += options(resume=resume, json=as_json)
    raise typer.Exit(run_trainer("trainer.crossval", line))
