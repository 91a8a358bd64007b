"""`warpline stream`: a live session on the command line; frames of a scanner, or played ones."""

from pathlib import Path
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
    a_file,
    in_panel,
    require_extra,
)
from service.cli.shared_options import ApiKey, Json
from service.errors import ValidationError

SOURCE, PLAYED = "Where frames come from (one of these)", "How a played scanner behaves"
SENT, SERVER = "What answers bring", "Server"

Watch = Annotated[
    Path | None,
    in_panel(
        SOURCE,
        "Folder into which a scanner exports volumes: each new file is a frame.",
        exists=True,
        file_okay=False,
    ),
]
Series = Annotated[Path | None, a_file(SOURCE, "A 4-D NIfTI file, played frame by frame.")]
Synthetic = Annotated[
    int | None, in_panel(SOURCE, "So many frames made of REFERENCE, moved and bent.", min=1)
]
Rate = Annotated[float, in_panel(PLAYED, "Frames a second; 0: as fast as they go.", min=0)]
Jitter = Annotated[
    float, in_panel(PLAYED, "How late frames may be, as a share of the interval.", min=0, max=10)
]
Drops = Annotated[float, in_panel(PLAYED, "Share of frames that the scanner loses.", min=0, max=1)]
Pause = Annotated[
    str | None,
    in_panel(PLAYED, "Pause for SECONDS after each FRAMES, as 10:2.", metavar="FRAMES:SECONDS"),
]
Field = Annotated[
    Literal["none", "half", "full"], in_panel(SENT, "The displacement field, and how finely.")
]
WarpedImage = Annotated[
    bool, in_panel(SENT, "The moving image on the fixed grid.", "--warped-image")
]
Out = Annotated[
    Path | None,
    in_panel(SENT, "Write each answer into a folder of its own below this one.", "--out", "-o"),
]
LiveUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="WARPLINE_URL",
        help="A live service, grpc://HOST:PORT; without it one is started here.",
        rich_help_panel=SERVER,
    ),
]
Frames = Annotated[int | None, typer.Option(help="End after so many answers.", min=1)]


def stream(
    reference: Reference,
    *,
    watch: Watch = None,
    series: Series = None,
    synthetic: Synthetic = None,
    rate: Rate = 0.0,
    jitter: Jitter = 0.0,
    drops: Drops = 0.0,
    pause: Pause = None,
    labels: Labels = None,
    mask: Mask = None,
    points: Points = None,
    initial_transform: Initial = None,
    role: Role = "moving",
    budget_ms: Budget = 0,
    every: Every = False,
    warm_start: WarmStart = True,
    rigid_only: RigidOnly = False,
    model: Model = None,
    initialise: Initialise = None,
    refine: Refine = None,
    field: Field = "none",
    warped_image: WarpedImage = False,
    out: Out = None,
    frames: Frames = None,
    url: LiveUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Register frames to REFERENCE as they come, and show how long each takes.

    No server is needed. See how fast this machine is, on frames made of your own volume:

        warpline stream mr.nii.gz --synthetic 50 --rate 2

    A scanner or ultrasound system exports volumes into a folder; the gland's labels follow it:

        warpline stream mr.nii.gz --labels gland.nii.gz --watch /export --out answers

    Play a 4-D series as a scanner would, every frame, on a server:

        warpline stream first.nii.gz --series heart.nii.gz --rate 4 --every
        --url grpc://127.0.0.1:8081

    Of frames that come too fast the latest is registered and those that it overtook are counted as
    dropped; --every registers all. Ctrl-C ends the session. With --json each answer is one line of
    JSON, and the last line sums up. Exit code 1 when nothing was answered.
    """
    given = dict(locals())
    _require_one(watch, series, synthetic)
    require_extra("Live sessions need", "client")
    from service.cli import stream_run, stream_setup
    from service.cli.scanner import Timing

    frames_s = {"pause_every": 0, "pause_s": 0.0} if pause is None else _pause(pause)
    given["timing"] = Timing(rate_hz=rate, jitter=jitter, drops=drops, **frames_s)
    given["options"] = {name: given[name] for name in ("model", "initialise", "refine")}
    names = stream_setup.Said.__dataclass_fields__
    said = stream_setup.Said(**{name: given[name] for name in names})
    wish = stream_run.Wish(url=url, api_key=api_key, out=out, frames=frames, as_json=as_json)
    if stream_run.run(said, wish) == 0:
        raise typer.Exit(screen.FAILED)


def _require_one(*sources: object) -> None:
    """Exactly one source of frames.

    Raises:
        ValidationError: If there is none, or several.
    """
    if sum(source is not None for source in sources) != 1:
        raise ValidationError(
            "Say where frames come from: one of --watch FOLDER, --series FILE and --synthetic N.",
            field="watch",
        )


def _pause(text: str) -> dict[str, Any]:
    every, _, seconds = text.partition(":")
    try:
        return {"pause_every": int(every), "pause_s": float(seconds)}
    except ValueError:
        raise ValidationError("--pause: write FRAMES:SECONDS, such as 10:2.") from None
