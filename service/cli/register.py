"""`warpline register`: two files in, a result folder out."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import typer

from service.cli import leaving, screen
from service.cli.results import filling, read_report, show_report
from service.cli.shared_options import ApiKey, Json, Url, connect, is_rpc
from service.errors import ValidationError, WarplineError
from service.registration.options import (
    InitialiseChoice,
    Interpolation,
    LabelInterpolation,
    RegisterOptions,
)
from service.registration.report import Report
from service.registration.roles import REGISTER_ROLES

if TYPE_CHECKING:
    from service.registration.models_folder import Models

FIELDS = RegisterOptions.model_fields
LOOKS, MATCHING = "How values are carried over", "How the pair is aligned"


def about(name: str) -> str:
    """The description that an option has everywhere."""
    return (FIELDS[name].description or "").replace("`GET /v1/models`", "`warpline models`")


def file_option(flag: str, sentence: str) -> Any:
    """An optional input file by its role."""
    return typer.Option(
        flag, help=sentence, exists=True, dir_okay=False, rich_help_panel="More files of the pair"
    )


Matching = {"rich_help_panel": MATCHING}
Looks = {"rich_help_panel": LOOKS}
Dicom: dict[str, Any] = {"rich_help_panel": "DICOM"}


def register(
    fixed: Annotated[
        Path, typer.Argument(help="Image to align to: a file, or a folder of DICOM.", exists=True)
    ],
    moving: Annotated[
        Path, typer.Argument(help="Image that is aligned, in the same forms.", exists=True)
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result folder.", file_okay=True)],
    fixed_labels: Annotated[
        Path | None, file_option("--fixed-labels", "Label map on the fixed grid; measures overlap.")
    ] = None,
    moving_labels: Annotated[
        Path | None, file_option("--moving-labels", "Label map that is warped too.")
    ] = None,
    fixed_mask: Annotated[
        Path | None, file_option("--fixed-mask", "Where the fixed image is to be matched.")
    ] = None,
    moving_mask: Annotated[
        Path | None, file_option("--moving-mask", "Where the moving image is to be matched.")
    ] = None,
    fixed_points: Annotated[
        Path | None, file_option("--fixed-points", "CSV of points, RAS mm; they come back moved.")
    ] = None,
    moving_points: Annotated[
        Path | None, file_option("--moving-points", "The same points in the moving image.")
    ] = None,
    initial_transform: Annotated[
        Path | None,
        file_option("--initial-transform", "4x4 matrix (RAS mm, fixed to moving) or ITK affine."),
    ] = None,
    model: Annotated[str, typer.Option(help=about("model"), **Matching)] = FIELDS["model"].default,
    initialise: Annotated[
        InitialiseChoice, typer.Option(help=about("initialise"), **Matching)
    ] = FIELDS["initialise"].default,
    refine: Annotated[
        str, typer.Option(help=about("refine"), metavar="none|fast|best|SECONDS", **Matching)
    ] = str(FIELDS["refine"].default),
    seed: Annotated[int, typer.Option(help=about("seed"), **Matching)] = FIELDS["seed"].default,
    interpolation: Annotated[
        Interpolation, typer.Option(help=about("interpolation"), **Looks)
    ] = FIELDS["interpolation"].default,
    label_interpolation: Annotated[
        LabelInterpolation, typer.Option(help=about("label_interpolation"), **Looks)
    ] = FIELDS["label_interpolation"].default,
    fill: Annotated[float, typer.Option(help=about("fill"), **Looks)] = FIELDS["fill"].default,
    fixed_series: Annotated[
        str | None, typer.Option(help=about("fixed_series"), metavar="NUMBER|UID", **Dicom)
    ] = None,
    moving_series: Annotated[
        str | None, typer.Option(help=about("moving_series"), metavar="NUMBER|UID", **Dicom)
    ] = None,
    allow_different_patients: Annotated[
        bool,
        typer.Option("--allow-different-patients", help=about("allow_different_patients"), **Dicom),
    ] = False,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help=about("deidentify"), **Dicom)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that has files.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Align MOVING to FIXED and write the result folder.

    No server is needed:

        warpline register fixed.nii.gz moving.nii.gz --out result

    Measure what labels say, and take the time it needs:

        warpline register a.nii b.nii -o result --fixed-labels a_seg.nii --moving-labels b_seg.nii
        --refine best

    Two DICOM series, as folders, zip archives or files of many frames:

        warpline register CT_DAY_1/ CT_DAY_8.zip -o result

    On a server, with the same result:

        warpline register a.nii b.nii -o result --url https://warpline.example.org

    Exit code 0 when the verdict is pass or warn, 1 when it is fail or the job failed.
    """
    given = dict(locals())
    options = make_options({name: given[name] for name in FIELDS})
    files = {role: given[role] for role in REGISTER_ROLES if given[role] is not None}
    shown = screen.progress_bar(is_shown=not as_json)
    with filling(out, overwrite=overwrite) as folder, shown as watch:
        if url is None:
            report = here(files, options, folder, watch)
        else:
            report = there(files, options, folder, (url, api_key), watch)
    finish(report, out, as_json=as_json)


def make_options(values: dict[str, Any]) -> RegisterOptions:
    """Checked options.

    Raises:
        ValidationError: Names the option that is wrong.
    """
    try:
        return RegisterOptions(**values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise ValidationError(
            f"--{name.replace('_', '-')}: {first['msg']}. {about(name)}", field=name
        ) from None


def here(
    files: dict[str, Path], options: RegisterOptions, folder: Path, watch: screen.Watch
) -> Report:
    """Register in this process."""
    with uncollected():
        report = _register_here(files, options, folder, watch)
    leaving.allow()
    return report


def _register_here(
    files: dict[str, Path], options: RegisterOptions, folder: Path, watch: screen.Watch
) -> Report:
    """Import, link and open side by side: what takes longest is begun first."""
    from service.cli.kernels import note_first_run
    from service.registration.kernels import ahead

    note_first_run()
    with ahead.loading():
        from service.cli.models_here import engines_here
        from service.settings import Settings

        settings = Settings()
        with engines_here(settings) as models, opening(models, options):
            from service.registration.files.limits import Limits
            from service.registration.pipeline import register_files

            limits = Limits(settings.max_voxels, settings.max_axis)
            secret = settings.deidentification_secret
            return register_files(
                files, options, folder, models, limits=limits, watch=watch, secret=secret
            )


@contextmanager
def opening(models: "Models", options: RegisterOptions) -> Iterator[None]:
    """Open a model meanwhile; whoever loads it then waits for it, or meets the same error."""

    def load() -> None:
        with suppress(WarplineError):
            engine = models.load(options.model)
            if options.refine == "none":  # else it may not be needed
                engine.start()

    thread = Thread(target=load, name="model")
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave cyclic garbage lie, of which a registration makes little.

    Looking for it costs a run of two seconds a tenth, most of it when the process ends.
    """
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def there(
    files: dict[str, Path],
    options: RegisterOptions,
    folder: Path,
    server: tuple[str, str | None],
    watch: screen.Watch,
) -> Report:
    """Register on a server and fetch its results."""
    terms: dict[str, Any] = options.model_dump(mode="json")
    with connect(*server) as client, packed(files) as sendable:
        terms.update(sendable)
        watch("sending", 0.0)
        if is_rpc(server[0]):
            terms["sent"] = lambda sent, total: watch(f"sending {sent / max(total, 1):.0%}", 0.0)
        job = client.register(
            wait=True, progress=lambda job: watch(_stage(job), job.fraction), **terms
        )
        watch("fetching", 1.0)
        client.download(job.id, folder)
    return read_report(folder)


@contextmanager
def packed(files: dict[str, Path]) -> Iterator[dict[str, Path]]:
    """The files, with folders as zip archives, which go again afterwards."""
    from service.client.packing import pack

    with TemporaryDirectory(prefix="warpline-send-") as scratch:
        yield {
            role: pack(path, Path(scratch) / f"{role}.zip", are_names_kept=False)
            if path.is_dir()
            else path
            for role, path in files.items()
        }


def _stage(job: Any) -> str:
    return f"queued ({job.place.position})" if job.place is not None else str(job.stage)


def finish(report: Report, out: Path, *, as_json: bool) -> None:
    """Print the report; a verdict of fail is exit code 1."""
    if as_json:
        screen.print_json({"out": str(out), **report.model_dump(mode="json")})
    else:
        show_report(report, out)
    if report.verdict.status == "fail":
        raise typer.Exit(screen.FAILED)
