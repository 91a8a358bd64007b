"""`warpline models`: what can be named with --model, and which version is in production."""

from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.models_here import library_here, stores_here
from service.cli.shared_options import ApiKey, Json, Url, connect
from service.errors import (
    ConflictError,
    ModelNotFoundError,
    NothingToRollBackError,
    ValidationError,
)
from service.registration.models_folder import ModelFolder
from service.settings import Settings

Reference = Annotated[str, typer.Argument(help="NAME, NAME/VERSION or NAME@ALIAS.")]
Name = Annotated[str, typer.Argument(help="The model.")]
Alias = Annotated[str, typer.Option(help="Which alias; NAME alone means `production`.")]

app = typer.Typer(
    no_args_is_help=True, help="List models, look at one, move an alias, delete a version."
)


def _found(url: str | None, api_key: str | None) -> list[dict[str, Any]]:
    if url is not None:
        with connect(url, api_key) as client:
            return client.models()
    with library_here(Settings()) as library:
        if library is not None:
            return [_shown(model) for model in library.list()]
    return [_shown(model) for model in _folder().list()]


def _folder() -> ModelFolder:
    return ModelFolder(Settings().models_dir)


def _shown(model: Any) -> dict[str, Any]:
    """A model of the library or of the folder, as a server would say it."""
    made = getattr(model, "registered", None)
    comparison = None if made is None else made.comparison
    return {
        "name": model.name,
        "version": model.version,
        "aliases": list(model.aliases),
        "source": "shipped" if made is None else "registered",
        "comparison": None if comparison is None else comparison.model_dump(mode="json"),
        "card": model.card.model_dump(mode="json"),
    }


@app.command("list")
def list_(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List the models here, or on a server."""
    found = _found(url, api_key)
    if as_json:
        screen.print_json({"models": found})
        return
    shown = screen.listing("model", "aliases", "what it is", "licence")
    for model in found:
        card = model["card"]
        name = f"{model['name']}/{model['version']}"
        shown.add_row(name, ", ".join(model["aliases"]), card["summary"], card["licence"])
    screen.stdout().print(shown)


@app.command("show")
def show(
    reference: Reference, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Show what a model promises.

    warpline models show discrete
    """
    model = _one(reference, url, api_key)
    card = model["card"]
    if as_json:
        screen.print_json(card)
        return
    screen.print_styled(f"{card['name']}/{card['version']}", "bold", card["summary"])
    shown = screen.listing("", "")
    shown.show_header = False
    for name in ("modalities", "anatomy", "providers"):
        shown.add_row(name, ", ".join(card[name]))
    for name in ("licence", "opset", "sha256"):
        shown.add_row(name, str(card[name]))
    shown.add_row("trained on", card["training"]["data"])
    for figure in card["evaluation"]:
        line = f"{figure['metric']} {figure['before']:g} -> {figure['after']:g}, {figure['data']}"
        shown.add_row("measured", line)
    for line in _compared(model.get("comparison")):
        shown.add_row("compared", line)
    screen.stdout().print(shown)


def _one(reference: str, url: str | None, api_key: str | None) -> dict[str, Any]:
    if url is not None:
        with connect(url, api_key) as client:
            return client.model(reference)
    with library_here(Settings()) as library:
        if library is not None:
            return _shown(library.find(reference))
    return {"card": _folder().card(reference).model_dump(mode="json")}


def _compared(comparison: dict[str, Any] | None) -> list[str]:
    """The comparison with what was in production, a line for each metric."""
    if comparison is None:
        return []
    head = f"{comparison['verdict']} than" if comparison["verdict"] != "equal" else "equal to"
    lines = [f"{head} {comparison['against']} on {comparison['pairs']} pairs"]
    for name, metric in comparison["metrics"].items():
        lines.append(
            f"{name} {metric['candidate']:g} beside {metric['production']:g}, "
            f"{metric['wins']} won, {metric['losses']} lost"
        )
    return lines


@app.command("promote")
def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version that the alias is to point to.")],
    *,
    alias: Alias = "production",
    force: Annotated[
        bool, typer.Option("--force", help="Without a comparison, or against what it says.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Point an alias to a version; `warpline models rollback` undoes it."""
    model: dict[str, Any] = {}
    if url is not None:
        with connect(url, api_key) as client:
            model = client.promote(name, version, alias, force=force)
    else:
        model = _promote_here(name, version, alias, force=force)
    if as_json:
        screen.print_json({"name": name, "version": version, "alias": alias})
        return
    for line in _compared(model.get("comparison")):
        screen.stdout().print(line)
    screen.stdout().print(f"{name}@{alias} is {name}/{version} now.")


def _promote_here(name: str, version: str, alias: str, *, force: bool) -> dict[str, Any]:
    with library_here(Settings()) as library:
        if library is not None:
            from service.stores import promotion

            return _shown(promotion.promote(library, name, version, alias, force=force))
    folder = _folder()
    if version not in folder.versions(name):
        raise ModelNotFoundError(f"There is no model {name}/{version}; see `models list`.")
    folder.set_alias(name, version, alias)
    return {}


@app.command("rollback")
def roll_back(
    name: Name,
    alias: Alias = "production",
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Point an alias back to where it pointed before its last move."""
    if url is not None:
        with connect(url, api_key) as client:
            model = client.roll_back(name, alias)
    else:
        model = _roll_back_here(name, alias)
    version = model["version"]
    if as_json:
        screen.print_json({"name": name, "version": version, "alias": alias})
    elif alias in model["aliases"]:
        screen.stdout().print(f"{name}@{alias} is {name}/{version} again.")
    else:
        screen.stdout().print(f"{name}@{alias} is gone again; {name} means {name}/{version}.")


def _roll_back_here(name: str, alias: str) -> dict[str, Any]:
    with library_here(Settings()) as library:
        if library is not None:
            from service.stores import promotion

            return _shown(promotion.roll_back(library, name, alias))
    raise NothingToRollBackError(
        "A folder of models remembers no moves; promote the version that was there before."
    )


@app.command("delete")
def delete(
    reference: Annotated[str, typer.Argument(help="NAME/VERSION.")],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Delete a version that a training made; refused while an alias or a job needs it."""
    name, _, version = reference.partition("/")
    if not version:
        raise ValidationError("Name one version, as NAME/VERSION.", field="reference")
    if url is not None:
        with connect(url, api_key) as client:
            client.delete_model(name, version)
    else:
        _delete_here(name, version)
    if as_json:
        screen.print_json({"name": name, "version": version})
    else:
        screen.stdout().print(f"{name}/{version} is deleted.")


def _delete_here(name: str, version: str) -> None:
    with stores_here(Settings()) as stores:
        if stores is not None:
            from service.stores.deletion import delete_model
            from service.stores.library import ModelLibrary

            library = ModelLibrary(_folder(), stores.models)
            delete_model(library, stores.jobs, stores.blobs, name, version)
            return
    _folder().card(f"{name}/{version}")  # raises where there is none
    raise ConflictError("Nothing was trained here; shipped models are not deleted.")
