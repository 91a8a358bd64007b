"""`warpline igtl`: PlusToolkit and 3D Slicer by OpenIGTLink, beside a live session."""

from contextlib import suppress
from typing import Annotated, Any, Literal

import typer

from service.cli import screen
from service.cli.live_options import (
    Budget,
    Every,
    Initial,
    Initialise,
    Labels,
    Mask,
    Model,
    Points,
    Reference,
    Refine,
    RigidOnly,
    Role,
    WarmStart,
    in_panel,
    require_extra,
)
from service.cli.shared_options import ApiKey, Json

DEFAULT_URL, DEFAULT_PORT = "grpc://127.0.0.1:8081", 18944
PEERS, SENT, SERVER = "Peers", "What peers are sent", "Server"


def _peer(sentence: str, **other: Any) -> Any:
    return in_panel(PEERS, sentence, **other)


def _sent(sentence: str, *flags: str) -> Any:
    return in_panel(SENT, sentence, *flags)


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
LiveUrl = Annotated[
    str, typer.Option(envvar="WARPLINE_URL", help="The live service.", rich_help_panel=SERVER)
]


def igtl(
    reference: Reference,
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
    require_extra("The bridge needs", "igtl")
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
