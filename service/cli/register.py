"""`warpline register`: two files in, a result folder out."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import leaving, screen
from service.cli.pair_options import (
    DEFAULTS,
    AllowDifferentPatients,
    Deidentify,
    Fill,
    FixedLabels,
    FixedMask,
    FixedPoints,
    FixedSeries,
    Initialise,
    InitialTransform,
    Interpolation,
    LabelInterpolation,
    Model,
    MovingLabels,
    MovingMask,
    MovingPoints,
    MovingSeries,
    Refine,
    Seed,
    make_options,
)
from service.cli.results import filling, read_report, show_report
from service.cli.shared_options import ApiKey, Json, Url, connect, is_rpc
from service.errors import WarplineError
from service.registration.options import RegisterOptions
from service.registration.report import Report
from service.registration.roles import REGISTER_ROLES

if TYPE_CHECKING:
    from service.registration.models_folder import Models


def register(
    fixed: Annotated[
        Path,
        typer.Argument(
            metavar="FIXED", help="Image to align to: a file, or a folder of DICOM.", exists=True
        ),
    ],
    moving: Annotated[
        Path,
        typer.Argument(
            metavar="MOVING", help="Image that is aligned, in the same forms.", exists=True
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Result folder.", file_okay=True)],
    fixed_labels: FixedLabels = None,
    moving_labels: MovingLabels = None,
    fixed_mask: FixedMask = None,
    moving_mask: MovingMask = None,
    fixed_points: FixedPoints = None,
    moving_points: MovingPoints = None,
    initial_transform: InitialTransform = None,
    model: Model = DEFAULTS.model,
    initialise: Initialise = DEFAULTS.initialise,
    refine: Refine = str(DEFAULTS.refine),
    seed: Seed = DEFAULTS.seed,
    interpolation: Interpolation = DEFAULTS.interpolation,
    label_interpolation: LabelInterpolation = DEFAULTS.label_interpolation,
    fill: Fill = DEFAULTS.fill,
    fixed_series: FixedSeries = None,
    moving_series: MovingSeries = None,
    allow_different_patients: AllowDifferentPatients = False,
    deidentify: Deidentify = False,
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
    options = make_options(given)
    files = {role: given[role] for role in REGISTER_ROLES if given[role] is not None}
    shown = screen.progress_bar(is_shown=not as_json)
    with filling(out, overwrite=overwrite) as folder, shown as watch:
        if url is None:
            report = here(files, options, folder, watch)
        else:
            report = there(files, options, folder, (url, api_key), watch)
    finish(report, out, as_json=as_json)


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
    """Import and open side by side: what takes longest is begun first."""
    from service.cli.kernels import note_first_run
    from service.cli.models_here import engines_here
    from service.settings import Settings

    note_first_run()
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
