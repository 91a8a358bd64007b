"""`warpline pacs`: series in archives, results that go there, and what scanners push."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import screen
from service.cli.pair_options import DEFAULTS, Initialise, Model, Refine, make_options
from service.cli.shared_options import DEFAULT_URL, ApiKey, Json, ServerUrl, connect
from service.cli.train import progress_line
from service.cli.warp import require_job_id
from service.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from service.client.rpc_sync import GrpcClient
    from service.client.sync import Client
    from service.client.views import Job

app = typer.Typer(
    no_args_is_help=True, help="Register series of an archive (PACS), store results, take pushes."
)
Series = "NAME/STUDY/SERIES"


@app.command("register")
def register(
    fixed: Annotated[
        str, typer.Argument(metavar=Series, help="Archive and UIDs of the image to align to.")
    ],
    moving: Annotated[
        str, typer.Argument(metavar=Series, help="The same of the image that is aligned.")
    ],
    *,
    store_to: Annotated[
        str | None, typer.Option(help="Archive that gets the result's DICOM objects.")
    ] = None,
    model: Model = DEFAULTS.model,
    refine: Refine = str(DEFAULTS.refine),
    initialise: Initialise = DEFAULTS.initialise,
    wait: Annotated[bool, typer.Option(help="Stay until the result is stored.")] = True,
    url: ServerUrl = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Have a server fetch a pair from its archives, register it, and store the result.

    warpline pacs register MAIN/1.2.3/1.2.3.4 MAIN/1.2.3/1.2.3.5 --store-to MAIN
    """
    options = make_options({"model": model, "refine": refine, "initialise": initialise})
    inputs = {"fixed": series_of(fixed, "FIXED"), "moving": series_of(moving, "MOVING")}
    with connect(url, api_key) as client:
        chosen = options.model_dump(mode="json", exclude_unset=True)
        job = client.register_series(inputs, chosen, store_to)
        if wait:
            job = _wait(client, job, is_shown=not as_json)
            if stored := job.links.get("store"):
                _wait(client, client.job(stored.rpartition("/")[2]), is_shown=not as_json)
    _show(job, as_json=as_json)


@app.command("store")
def store(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="A registration's id.")],
    pacs: Annotated[str, typer.Argument(metavar="NAME", help="The archive.")],
    url: ServerUrl = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Send a finished job's DICOM objects to an archive; what it has already is not sent twice."""
    with connect(url, api_key) as client:
        job = client.store(require_job_id(job_id), pacs)
        job = _wait(client, job, is_shown=not as_json)
    _show(job, as_json=as_json)


@app.command("check")
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The file; by default that of WARPLINE_PACS_FILE.")
    ] = None,
) -> None:
    """Read the file that names the archives and say what it sets up; nothing is contacted."""
    with _extra():
        from service.pacs.peers import Peers
    from service.settings import Settings

    path = file or Settings().pacs_file
    if path is None:
        raise ConfigurationError("Name a file, or set WARPLINE_PACS_FILE.")
    peers = Peers.read(path)
    shown = screen.listing("peer", "protocol", "address")
    for name, peer in peers.by_name.items():
        address = peer.url if peer.protocol == "dicomweb" else f"{peer.host}:{peer.port}"
        shown.add_row(name, peer.protocol, address)
    screen.stdout().print(shown)
    for rule in peers.listener.rules if peers.listener else ():
        screen.note(f"Rule {rule.name}: results go to {rule.store_to or 'no archive'}.")


@app.command("listen")
def listen() -> None:
    """Take what scanners push (C-STORE) and make jobs of it, by the rules of WARPLINE_PACS_FILE."""
    with _extra():
        from service.pacs.listener import main
    main()


def series_of(text: str, name: str) -> dict[str, str]:
    """Archive, study and series of an argument.

    Raises:
        typer.BadParameter: If it is not of that form.
    """
    parts = text.removeprefix("pacs://").split("/")
    if len(parts) != 3 or not all(parts):
        raise typer.BadParameter(f"write it as {Series}", param_hint=name)
    return dict(zip(("pacs", "study", "series"), parts, strict=True))


@contextmanager
def _extra() -> Iterator[None]:
    """Say which extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'Archives need the extras `dicom` and `gateway`: pip install "warpline[all-cpu]".'
        ) from error


def _wait(client: "Client | GrpcClient", job: "Job", *, is_shown: bool) -> "Job":
    with screen.progress_bar(is_shown=is_shown) as tell:
        return client.wait(job.id, lambda job: tell(progress_line(job), job.fraction))


def _show(job: "Job", *, as_json: bool) -> None:
    if as_json:
        screen.print_json(job.model_dump(mode="json"))
    else:
        screen.stdout().print(f"{job.kind} {job.id}: {job.state}")
