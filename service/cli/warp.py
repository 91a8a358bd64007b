"""`warpline warp`: a finished transform applied to more files."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from service.cli import screen
from service.cli.pair_options import DEFAULTS, Fill, Interpolation, LabelInterpolation
from service.cli.results import filling
from service.cli.shared_options import ApiKey, Json, Url, connect
from service.errors import InvalidRequestError
from service.registration.options import WarpOptions

Space = Literal["fixed", "moving"]


def warp(
    result: Annotated[
        str,
        typer.Argument(help="A result folder; with --url, the id of a job.", show_default=False),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the warped files go.")],
    image: Annotated[
        Path | None,
        typer.Option(help="In the moving image's space.", exists=True, dir_okay=False),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Label map in the moving image's space.", exists=True, dir_okay=False),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="CSV of points, RAS mm.", exists=True, dir_okay=False)
    ] = None,
    points_from: Annotated[
        Space | None,
        typer.Option(help="The space that the points lie in; they come back in the other."),
    ] = None,
    interpolation: Interpolation = DEFAULTS.interpolation,
    label_interpolation: LabelInterpolation = DEFAULTS.label_interpolation,
    fill: Fill = DEFAULTS.fill,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that has files.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Carry more images, labels or points over by a transform that is there already.

    Another sequence of the moving session, onto the fixed grid:

        warpline warp result --image moving_flair.nii.gz --out warped

    Landmarks that were set in the fixed image, into the moving one:

        warpline warp result --points landmarks.csv --points-from fixed --out warped
    """
    _require_input(image, labels, points, points_from)
    options = WarpOptions(
        interpolation=interpolation, label_interpolation=label_interpolation, fill=fill
    )
    every = {"image": image, "labels": labels, "points": points}
    given = {role: path for role, path in every.items() if path is not None}
    with filling(out, overwrite=overwrite) as folder:
        if url is None:
            with screen.progress_bar(is_shown=not as_json) as watch:
                files = _fields_of(Path(result)) | _roles(given, points_from)
                _here(files, options, folder, watch)
        else:
            terms = {**given, "points_from": points_from, **options.model_dump(mode="json")}
            with connect(url, api_key) as client:
                job = client.warp(require_job_id(result), wait=True, **terms)
                client.download(job.id, folder)
        names = sorted(file.name for file in folder.iterdir())
    if as_json:
        screen.print_json({"out": str(out), "files": names})
    else:
        screen.stdout().print(f"Wrote {', '.join(names)} to {out}", soft_wrap=True)


def _require_input(*given: Any) -> None:
    image, labels, points, points_from = given
    if image is None and labels is None and points is None:
        raise InvalidRequestError("Give at least one of --image, --labels and --points.")
    if points is not None and points_from is None:
        raise InvalidRequestError(
            "Say with --points-from whether the points lie in the fixed or the moving image: "
            "the two move by opposite fields.",
            field="points_from",
        )


def _roles(given: dict[str, Path], points_from: Space | None) -> dict[str, Path]:
    """Files under the names that the pipeline has for them."""
    names = {"image": "moving", "labels": "moving_labels", "points": f"{points_from}_points"}
    return {names[role]: path for role, path in given.items()}


def _fields_of(result: Path) -> dict[str, Path]:
    """The transform in a result folder.

    Raises:
        InvalidRequestError: If there is none.
    """
    fields = {role: result / f"{role}.nii.gz" for role in ("ddf", "inverse_ddf")}
    found = {role: path for role, path in fields.items() if path.is_file()}
    if "ddf" not in found:
        raise InvalidRequestError(
            "The result folder has no ddf.nii.gz; name a folder that `warpline register` wrote, "
            "or a job id together with --url.",
            field="result",
        )
    return found


def _here(files: dict[str, Path], options: WarpOptions, folder: Path, watch: screen.Watch) -> None:
    """Warp in this process."""
    from service.cli.kernels import note_first_run
    from service.registration.files.limits import Limits
    from service.registration.kernels.launch import set_threads
    from service.registration.warping import warp_files
    from service.settings import Settings

    note_first_run()
    settings = Settings()
    set_threads(settings.threads)
    limits = Limits(settings.max_voxels, settings.max_axis)
    warp_files(files, options, folder, limits=limits, watch=watch)


def require_job_id(text: str) -> str:
    """The text, if it is a job's id.

    Raises:
        InvalidRequestError: If it is none.
    """
    try:
        return str(UUID(text))
    except ValueError:
        raise InvalidRequestError(
            f"{json.dumps(text)} is no job id; `warpline jobs list` shows yours.", field="job"
        ) from None
