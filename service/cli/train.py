"""`warpline train`: a configuration and data in, a model out, here or on a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import screen
from service.cli.results import filling
from service.cli.shared_options import ApiKey, Json, Url, connect
from service.cli.train_results import lay_out
from service.errors import InvalidRequestError

if TYPE_CHECKING:
    from service.client.views import Job

ON_SERVER = "Server"


def train(
    config: Annotated[
        list[str] | None,
        typer.Argument(
            help="YAML files or names of recipes; later ones are laid over earlier ones.",
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the training and its model.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data folder instead of `data.root`; with --url also a .zip or .tar.gz.",
            exists=True,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="OPTION=VALUE", help="As `--set train.epochs=5`; repeatable."
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Which fold is the test, where splits are folds.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")
    ] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Begin with these weights, such as RUN/checkpoints/best.safetensors.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    version: Annotated[str, typer.Option(help="Of the model that is made here.")] = "1",
    recipes: Annotated[
        bool, typer.Option("--recipes", help="List the recipes that come with Warpline.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every option, its default and its meaning.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="Id of a data set that the server has.", rich_help_panel=ON_SERVER),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Do not wait for the end.", rich_help_panel=ON_SERVER),
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Train a network, export and evaluate it.

    On this machine, which needs the extra `trainer`:

        warpline train my.yaml --data images --out run

    A recipe that comes with Warpline, on the data that it names, for a shorter time:

        warpline train hippocampus-combined --data images --out run --set train.epochs=20

    On a server, which packs and sends the folder, waits and fetches the model:

        warpline train my.yaml --data images --url https://warpline.example.org --out run
    """
    if explain:
        from service.cli.train_explained import show_options

        show_options(as_json=as_json)
        return
    if recipes:
        from service.cli.train_explained import show_recipes

        show_recipes(as_json=as_json)
        return
    if not config:
        raise InvalidRequestError("Name a configuration, or use --explain.", field="config")
    from trainer.config.recipes import found

    files = found(config)
    if out is None and not (url and detach):
        raise InvalidRequestError("Name a folder for the result with --out.", field="out")
    if url is None:
        from service.cli.train_local import LocalRun, run_locally

        run = LocalRun(
            files,
            Path(out or "."),
            data,
            fold,
            change or (),
            resume,
            as_json,
            start_from=start_from,
            version=version,
        )
        raise typer.Exit(run_locally(run))
    if resume or start_from is not None:
        raise InvalidRequestError(
            "A server resumes by itself and begins with new weights: --resume and --start-from "
            "are for trainings on this machine.",
            field="resume" if resume else "start_from",
        )
    changes = [*(change or ()), *([] if fold is None else [f"data.splits.fold={fold}"])]
    document, root = read_document(files, changes)
    terms = {"dataset_id": dataset} if dataset else {"data": data or root}
    _train_there(document, terms, (url, api_key), None if detach else out, as_json=as_json)


def read_document(paths: list[Path], changes: list[str]) -> tuple[dict[str, Any], Path | None]:
    """The checked configuration as a server takes it, and the data folder that it names.

    Raises:
        ValidationError: Every fault with a pointer, before anything is sent.
    """
    from trainer.config import read_config

    checked = read_config(paths, changes)
    document: dict[str, Any] = checked.model_dump(mode="json", exclude_unset=True)
    root = document.get("data", {}).pop("root", None)
    return document, Path(root) if root is not None else None


def _train_there(
    document: dict[str, Any],
    terms: dict[str, Any],
    server: tuple[str, str | None],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Order the training; with a folder, wait for its end and fill the folder."""
    with connect(*server) as client:
        if terms.get("data") is not None:
            screen.note("Packing and sending the data ...")
        job = client.train(document, **terms)
        if out is None:
            show_ordered(job, as_json=as_json)
            return
        screen.note(f"Job {job.id}; `warpline jobs watch {job.id}` looks at it from elsewhere.")
        with filling(out, overwrite=False) as folder:
            with screen.progress_bar(is_shown=not as_json) as watch:
                job = client.wait(job.id, lambda now: watch(progress_line(now), now.fraction))
            client.download(job.id, folder)
            lay_out(folder)
    show_trained(job, out, as_json=as_json)


def progress_line(job: "Job") -> str:
    """Stage, epoch, losses and the time left, as far as they are known."""
    if job.place is not None:
        return f"queued ({job.place.position})"
    told = job.detail or {}
    words = [job.stage]
    if "epoch" in told:
        words.append(f"epoch {told['epoch']}")
    words += [f"{name} {value:.4g}" for name, value in list(told.get("losses", {}).items())[:3]]
    if job.seconds_left is not None:
        words.append(f"{duration(job.seconds_left)} left")
    return "  ".join(words)


def duration(seconds: float) -> str:
    """Seconds in words that fit a bar."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def show_ordered(job: "Job", *, as_json: bool) -> None:
    """The job that was ordered."""
    if as_json:
        screen.print_json(job.model_dump(mode="json"))
    else:
        screen.stdout().print(f"{job.id}")


def show_trained(job: "Job", out: Path, *, as_json: bool) -> None:
    """The model, and how it did beside the one in production."""
    summary = job.summary or {}
    if as_json:
        screen.print_json({"out": str(out), "job_id": str(job.id), **summary})
        return
    model, compared = summary.get("model") or {}, summary.get("comparison") or {}
    name = f"{model.get('name')}/{model.get('version')}"
    screen.print_styled(name, "bold green", "is on the server, with the alias `candidate`.")
    console = screen.stdout()
    if compared.get("against"):
        verdict, other = compared.get("verdict"), compared["against"]
        console.print(f"Beside {other} on the same pairs: {verdict}.")
    for metric, values in (compared.get("metrics") or {}).items():
        console.print(f"  {metric}: {values['candidate']:.4g}, there {values['production']:.4g}")
    console.print(f"Promote it: warpline models promote {model.get('name')} {model.get('version')}")
    console.print(f"Use it here: WARPLINE_MODELS_DIR={out / 'model'}", soft_wrap=True)
    page = out / "evaluation" / "evaluation.html"
    console.print(f"Results: {out}  (open {page})", soft_wrap=True)
