"""What the commands about live sessions have in common: the reference, and how frames are met."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.cli.pair_options import about
from service.errors import MissingExtraError

FILES, FRAMES = "More of the reference", "How frames are registered"


def in_panel(panel: str, sentence: str, *flags: str, **other: Any) -> Any:
    """An option under a heading."""
    return typer.Option(*flags, help=sentence, rich_help_panel=panel, **other)


def a_file(panel: str, sentence: str) -> Any:
    """An option that is an input file, under a heading."""
    return in_panel(panel, sentence, exists=True, dir_okay=False)


Reference = Annotated[
    Path,
    typer.Argument(
        help="The image that every frame is registered to.", exists=True, dir_okay=False
    ),
]
Labels = Annotated[Path | None, a_file(FILES, "Its labels, on its grid; answers can carry them.")]
Mask = Annotated[Path | None, a_file(FILES, "Not 0 where it is to be matched, on its grid.")]
Points = Annotated[Path | None, a_file(FILES, "Its points: CSV in RAS mm, or a file of 3D Slicer.")]
Initial = Annotated[
    Path | None, a_file(FILES, "4x4 matrix (RAS mm, fixed to moving) or ITK affine to begin with.")
]
Role = Annotated[
    Literal["fixed", "moving"],
    in_panel(FRAMES, "The reference's; `moving` is warped onto each frame."),
]
Budget = Annotated[int, in_panel(FRAMES, "Time for a frame; 0: as long as it takes.", min=0)]
Every = Annotated[
    bool,
    in_panel(
        FRAMES,
        "Register every frame, so that senders wait, or only the latest.",
        "--every/--latest",
    ),
]
WarmStart = Annotated[
    bool, in_panel(FRAMES, "Begin with the last answer.", "--warm-start/--cold-start")
]
RigidOnly = Annotated[bool, in_panel(FRAMES, "Look for no deformation.", "--rigid-only")]
Model = Annotated[str | None, in_panel(FRAMES, about("model"))]
Initialise = Annotated[str | None, in_panel(FRAMES, about("initialise"))]
Refine = Annotated[str | None, in_panel(FRAMES, about("refine"), metavar="none|fast|best|SECONDS")]


def require_extra(what: str, extra: str) -> None:
    """Say what to install.

    Raises:
        MissingExtraError: If the client of live sessions cannot be imported.
    """
    try:
        import service.client.live  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{what} the extra `{extra}`: pip install "warpline[{extra}]".'
        ) from error
