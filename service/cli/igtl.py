"""`warpline igtl`: PlusToolkit and 3D Slicer by OpenIGTLink, beside a live session."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.cli import screen
from service.cli.register import about
from service.cli.shared_options import ApiKey, Json
from service.errors import MissingExtraError

DEFAULT_URL, DEFAULT_PORT = "grpc://127.0.0.1:8081", 18944
FILES, PEERS, SENT = "More of the reference", "Peers", "What peers are sent"
FRAMES, SERVER = "How frames are registered", "Server"


def _file(sentence: str) -> Any:
    return typer.Option(help=sentence, exists=True, dir_okay=False, rich_help_panel=FILES)


def _peer(sentence: str, **other: Any) -> Any:
    return typer.Option(help=sentence, rich_help_panel=PEERS, **other)


def _sent(sentence: str, *names: str) -> Any:
    return typer.Option(*names, help=sentence, rich_help_panel=SENT)


def _how(sentence: str, *names: str, **other: Any) -> Any:
    return typer.Option(*names, help=sentence, rich_help_panel=FRAMES, **other)


Labels = Annotated[Path | None, _file("Its labels, on its grid.")]
Mask = Annotated[Path | None, _file("Not 0 where it is to be matched, on its grid.")]
Points = Annotated[Path | None, _file("Its points: CSV in RAS mm, or a file of 3D Slicer.")]
Initial = Annotated[
    Path | None, _file("4x4 matrix (RAS mm, fixed to moving) or ITK affine to begin with.")
]
Listen = Annotated[
    int | None, _peer(f"Take peers at this port; {DEFAULT_PORT} if --connect is not given.")
]
Bind = Annotated[str, _peer("Address to listen at; 0.0.0.0 lets other machines in.")]
Connect = Annotated[
    list[str] | None,
    _peer("Connect to a peer, again and again; may be repeated.", metavar="HOST:PORT"),
]
Device = Annotated[str | None, _peer("Take only images of this device name as frames.")]
Coordinates = Annotated[
    Literal["header", "ras", "lps"],
    _peer("What the matrix of an image is in, where its header tells it wrong."),
]
Out = Annotated[
    str, _sent("With commas: transform, grid, labels, image, points, frame, text.", "--out", "-o")
]
Linear = Annotated[Literal["affine", "rigid"], _sent("Which transform is sent.")]
HalfGrid = Annotated[bool, _sent("Every second vector of the grid along each axis.", "--half-grid")]
SendFailed = Annotated[bool, _sent("Answers that cannot be trusted, too.", "--send-failed")]
Role = Annotated[
    Literal["fixed", "moving"], _how("The reference's; `moving` is warped onto each frame.")
]
Budget = Annotated[int, _how("Time for a frame; 0: as long as it takes.", min=0)]
Every = Annotated[bool, _how("Register every frame, and have peers wait.", "--every/--latest")]
WarmStart = Annotated[bool, _how("Begin with the last answer.", "--warm-start/--cold-start")]
RigidOnly = Annotated[bool, _how("Look for no deformation.", "--rigid-only")]
Model = Annotated[str | None, _how(about("model"))]
Initialise = Annotated[str | None, _how(about("initialise"))]
Refine = Annotated[str | None, _how(about("refine"), metavar="none|fast|best|SECONDS")]
LiveUrl = Annotated[
    str, typer.Option(envvar="WARPLINE_URL", help="The live service.", rich_help_panel=SERVER)
]


def igtl(
    reference: Annotated[
        Path,
        typer.Argument(
            help="The image that every frame is registered to.", exists=True, dir_okay=False
        ),
    ],
    *,
    labels: Labels = None,
    mask: Mask = None,
    points: Points = None,
    initial_transform: Initial = None,
    listen: Listen = None,
    bind: Bind = "127.0.0.1",
    connect: Connect = None,
    device: Device = None,
    coordinates: Coordinates = "header",
    out: Out = "transform",
    linear: Linear = "affine",
    half_grid: HalfGrid = False,
    send_failed: SendFailed = False,
    role: Role = "moving",
    budget_ms: Budget = 0,
    every: Every = False,
    warm_start: WarmStart = True,
    rigid_only: RigidOnly = False,
    model: Model = None,
    initialise: Initialise = None,
    refine: Refine = None,
    url: LiveUrl = DEFAULT_URL,
    api_key: ApiKey = None,
    answers: Annotated[int | None, typer.Option(help="End after so many answers.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Bridge OpenIGTLink and a live session: images in, transforms and volumes out.

    3D Slicer sends volumes and shows the transform that moves REFERENCE onto them:

        warpline igtl mr.nii.gz --labels gland.nii.gz --out transform,labels --listen 18944

    Volumes of a PlusServer; 3D Slicer connects to the bridge:

        warpline igtl mr.nii.gz --connect plus-machine:18944 --listen 18945

    Ends with Ctrl-C, and prints with --json what happened.
    """
    given = dict(locals())
    _require_extra()
    from service.cli import igtl_setup, igtl_table
    from service.igtl.tally import Tally

    given["options"] = {name: given[name] for name in ("model", "initialise", "refine")}
    names = igtl_setup.Said.__dataclass_fields__
    said = igtl_setup.Said(**{name: given[name] for name in names})
    tally = Tally()
    peers = [igtl_setup.host_and_port(text) for text in connect or []]
    with igtl_table.shown(tally, is_shown=not as_json):
        bridge = igtl_setup.make_bridge(said, tally)
        if listen is not None or not peers:
            port = bridge.peers.listen(DEFAULT_PORT if listen is None else listen, bind)
            tally.say(f"Listening at {bind}:{port}.")
        for host, port in peers:
            bridge.peers.connect(host, port)
        with suppress(KeyboardInterrupt):
            bridge.run(answers)
    if as_json:
        screen.print_json(tally.summary())


def _require_extra() -> None:
    """Say what to install.

    Raises:
        MissingExtraError: If the client of live sessions cannot be imported.
    """
    try:
        import service.client.live  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'The bridge needs the extra `igtl`: pip install "warpline[igtl]".'
        ) from error
