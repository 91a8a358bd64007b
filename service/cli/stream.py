"""`warpline stream`: a live session on the command line; frames of a scanner, or played ones."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.cli import screen
from service.cli.register import about
from service.cli.shared_options import ApiKey, Json
from service.errors import MissingExtraError, ValidationError

SOURCE, FILES = "Where frames come from (one of these)", "More of the reference"
PLAYED, FRAMES = "How a played scanner behaves", "How frames are registered"
SENT, SERVER = "What answers bring", "Server"


def _option(panel: str, sentence: str, *names: str, **other: Any) -> Any:
    return typer.Option(*names, help=sentence, rich_help_panel=panel, **other)


def _file(panel: str, sentence: str) -> Any:
    return _option(panel, sentence, exists=True, dir_okay=False)


Watch = Annotated[
    Path | None,
    _option(
        SOURCE,
        "Folder into which a scanner exports volumes: each new file is a frame.",
        exists=True,
        file_okay=False,
    ),
]
Series = Annotated[Path | None, _file(SOURCE, "A 4-D NIfTI file, played frame by frame.")]
Synthetic = Annotated[
    int | None, _option(SOURCE, "So many frames made of REFERENCE, moved and bent.", min=1)
]
Rate = Annotated[float, _option(PLAYED, "Frames a second; 0: as fast as they go.", min=0)]
Jitter = Annotated[
    float, _option(PLAYED, "How late frames may be, as a share of the interval.", min=0, max=10)
]
Drops = Annotated[float, _option(PLAYED, "Share of frames that the scanner loses.", min=0, max=1)]
Pause = Annotated[
    str | None,
    _option(PLAYED, "Pause for SECONDS after each FRAMES, as 10:2.", metavar="FRAMES:SECONDS"),
]
Labels = Annotated[Path | None, _file(FILES, "Its labels, on its grid; each answer carries them.")]
Mask = Annotated[Path | None, _file(FILES, "Not 0 where it is to be matched, on its grid.")]
Points = Annotated[Path | None, _file(FILES, "Its points: CSV in RAS mm, or a file of 3D Slicer.")]
Initial = Annotated[
    Path | None, _file(FILES, "4x4 matrix (RAS mm, fixed to moving) or ITK affine to begin with.")
]
Role = Annotated[
    Literal["fixed", "moving"],
    _option(FRAMES, "The reference's; `moving` is warped onto each frame."),
]
Budget = Annotated[int, _option(FRAMES, "Time for a frame; 0: as long as it takes.", min=0)]
Every = Annotated[
    bool,
    _option(FRAMES, "Register every frame, or only the latest that came.", "--every/--latest"),
]
WarmStart = Annotated[
    bool, _option(FRAMES, "Begin with the last answer.", "--warm-start/--cold-start")
]
RigidOnly = Annotated[bool, _option(FRAMES, "Look for no deformation.", "--rigid-only")]
Model = Annotated[str | None, _option(FRAMES, about("model"))]
Initialise = Annotated[str | None, _option(FRAMES, about("initialise"))]
Refine = Annotated[str | None, _option(FRAMES, about("refine"), metavar="none|fast|best|SECONDS")]
Field = Annotated[
    Literal["none", "half", "full"], _option(SENT, "The displacement field, and how finely.")
]
WarpedImage = Annotated[
    bool, _option(SENT, "The moving image on the fixed grid.", "--warped-image")
]
Out = Annotated[
    Path | None,
    _option(SENT, "Write each answer into a folder of its own below this one.", "--out", "-o"),
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
    reference: Annotated[
        Path,
        typer.Argument(
            help="The image that every frame is registered to.", exists=True, dir_okay=False
        ),
    ],
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
    _require_extra()
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


def _require_extra() -> None:
    """Say what to install.

    Raises:
        MissingExtraError: If the client of live sessions cannot be imported.
    """
    try:
        import service.client.live  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'Live sessions need the extra `client`: pip install "warpline[client]".'
        ) from error
