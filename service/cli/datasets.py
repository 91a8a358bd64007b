"""`warpline datasets`: data that a server keeps, to be trained on."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import screen
from service.cli.shared_options import DEFAULT_URL, ApiKey, Json, ServerUrl, connect

app = typer.Typer(no_args_is_help=True, help="Add, list and delete data sets of a server.")

DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="The data set's id.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, `.`, `_` and `-`.")],
    data: Annotated[
        Path, typer.Argument(help="A folder, a .zip or a .tar.gz.", exists=True, show_default=False)
    ],
    url: ServerUrl = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Pack and send a folder, to be trained on many times.

    warpline datasets add hippocampus ./images
    """
    with connect(url, api_key) as client:
        made = client.register_dataset(name, data=data)
    if as_json:
        screen.print_json(made.model_dump(mode="json"))
    else:
        screen.stdout().print(f"{made.id}")


@app.command("list")
def list_(url: ServerUrl = DEFAULT_URL, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List your data sets, newest first."""
    with connect(url, api_key) as client:
        page = client.datasets(limit=200)
    if as_json:
        screen.print_json(page.model_dump(mode="json"))
        return
    shown = screen.listing("data set", "name", "files", "MiB", "made (UTC)")
    for found in page.datasets:
        mib = "" if found.bytes is None else f"{found.bytes / 2**20:.1f}"
        files = "" if found.files is None else str(found.files)
        made = found.created_at.strftime("%Y-%m-%d %H:%M:%S")
        shown.add_row(str(found.id), found.name, files, mib, made)
    screen.stdout().print(shown)


@app.command("delete")
def delete(
    dataset_id: DatasetId,
    url: ServerUrl = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Delete a data set; trainings that were ordered with it keep it until they end."""
    with connect(url, api_key) as client:
        client.delete_dataset(dataset_id)
    if as_json:
        screen.print_json({"deleted": dataset_id})
