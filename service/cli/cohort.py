"""`warpline cohort`: many moving images to one fixed, one table, one page."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import screen
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
    Interpolation,
    LabelInterpolation,
    Model,
    MovingSeries,
    Refine,
    Seed,
    make_options,
)
from service.cli.shared_options import ApiKey, Json, Url
from service.cores import usable_cores
from service.errors import ConflictError

FIXED_ROLES = ("fixed", "fixed_labels", "fixed_mask", "fixed_points")


def cohort(
    fixed: Annotated[
        Path,
        typer.Argument(
            metavar="FIXED", help="Image that all are aligned to, as for `register`.", exists=True
        ),
    ],
    images: Annotated[
        str,
        typer.Argument(
            metavar="LIST",
            help="CSV with the column `moving` and, if you like, `id`, `moving_labels`, "
            "`moving_mask`, `moving_points`, `initial_transform`; or a folder of images; or a "
            "pattern in quotes.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of all results.")],
    fixed_labels: FixedLabels = None,
    fixed_mask: FixedMask = None,
    fixed_points: FixedPoints = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="How many at a time; by default what suits the cores."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Do again what is done already.")] = False,
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
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Align every image of LIST to FIXED: a result folder for each, one table and one page.

    A template and a folder of images:

        warpline cohort template.nii.gz images --out cohort

    A list with labels, and what it says of the overlap:

        warpline cohort atlas.nii.gz list.csv --fixed-labels atlas_seg.nii.gz -o cohort

    Begun again, it goes on where it was stopped. Exit code 0 when each subject's verdict is pass
    or warn, else 1.
    """
    given = dict(locals())
    options = make_options(given)
    sent = {role: given[role] for role in FIXED_ROLES if given[role] is not None}
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{out} is a file; name a folder with --out.", field="out")
    from service.cli.cohort_list import read_subjects
    from service.cli.cohort_run import Run

    run = Run(sent, options, out, read_subjects(images, fixed), force=force)
    if url is None:
        run.here(jobs or at_once(len(run.subjects)), is_shown=not as_json)
    else:
        run.there((url, api_key), is_shown=not as_json)
    finish(run.folder, as_json=as_json)


def at_once(subjects: int) -> int:
    """How many processes are quickest: a registration keeps two cores busy.

    And starting one costs as much as a subject or two.
    """
    return max(1, min(usable_cores() // 2, subjects // 4))


def finish(folder: Any, *, as_json: bool) -> None:
    """Print the table; a subject without a result that may be used is exit code 1."""
    from service.cli.cohort_shown import show_table

    table = folder.table
    if as_json:
        screen.print_json({"out": str(folder.root), **table.model_dump(mode="json")})
    else:
        show_table(table, folder)
    if any(row.has_failed or row.state != "done" for row in table.subjects):
        raise typer.Exit(screen.FAILED)
