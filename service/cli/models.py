"""`warpline models`: what can be named with --model."""

from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.shared_options import ApiKey, Json, Url, connect
from service.errors import ModelNotFoundError

Reference = Annotated[str, typer.Argument(help="NAME, NAME/VERSION or NAME@ALIAS.")]

app = typer.Typer(no_args_is_help=True, help="List models, look at one, move an alias.")


def _found(url: str | None, api_key: str | None) -> list[dict[str, Any]]:
    if url is not None:
        with connect(url, api_key) as client:
            return client.models()
    return [
        {
            "name": model.name,
            "version": model.version,
            "aliases": list(model.aliases),
            "card": model.card.model_dump(mode="json"),
        }
        for model in _folder().list()
    ]


def _folder() -> Any:
    from service.registration.models_folder import ModelFolder
    from service.settings import Settings

    return ModelFolder(Settings().models_dir)


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
    if url is not None:
        with connect(url, api_key) as client:
            card = client.model(reference)["card"]
    else:
        card = _folder().card(reference).model_dump(mode="json")
    if as_json:
        screen.print_json(card)
        return
    console = screen.stdout()
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
    console.print(shown)


@app.command("promote")
def promote(
    name: Annotated[str, typer.Argument(help="The model.")],
    version: Annotated[str, typer.Argument(help="The version that the alias is to point to.")],
    alias: Annotated[str, typer.Option(help="Which alias; NAME alone means `production`.")] = (
        "production"
    ),
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Point an alias to a version; going back is the same command with the version before."""
    if url is not None:
        with connect(url, api_key) as client:
            client.promote(name, version, alias)
    else:
        folder = _folder()
        if version not in [m.version for m in folder.list() if m.name == name]:
            raise ModelNotFoundError(f"There is no model {name}/{version}; see `models list`.")
        folder.set_alias(name, version, alias)
    if as_json:
        screen.print_json({"name": name, "version": version, "alias": alias})
    else:
        screen.stdout().print(f"{name}@{alias} is {name}/{version} now.")
