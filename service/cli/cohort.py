"""`warpline cohort`: many moving images to one fixed, one table, one page."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.register import (
    FIELDS,
    Dicom,
    Looks,
    Matching,
    about,
    file_option,
    make_options,
)
from service.cli.shared_options import ApiKey, Json, Url
from service.errors import ConflictError
from service.registration.options import (
    InitialiseChoice,
    Interpolation,
    LabelInterpolation,
)

FIXED_ROLES = ("fixed", "fixed_labels", "fixed_mask", "fixed_points")


def cohort(
    fixed: Annotated[
        Path, typer.Argument(help="Image that all are aligned to, as for `register`.", exists=True)
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
    fixed_labels: Annotated[
        Path | None, file_option("--fixed-labels", "Label map on the fixed grid; measures overlap.")
    ] = None,
    fixed_mask: Annotated[
        Path | None, file_option("--fixed-mask", "Where the fixed image is to be matched.")
    ] = None,
    fixed_points: Annotated[
        Path | None, file_option("--fixed-points", "CSV of points, RAS mm; they come back moved.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="How many at a time; by default what suits the cores."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Do again what is done already.")] = False,
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
    options = make_options({name: given[name] for name in FIELDS})
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
    return max(1, min(len(os.sched_getaffinity(0)) // 2, subjects // 4))


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
