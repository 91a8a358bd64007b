"""`warpline demo`."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from service.cli import screen
from service.cli.results import filling
from service.cli.shared_options import Json
from service.cli.up import require_stack
from service.errors import MissingExtraError


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Result folder.")] = Path("demo-result"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Half the resolution and no refinement.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a real brain MRI pair through the REST API, and compare with the known truth.

    Starts the service on a free port, sends it the MNI152 template and the same brain deformed by
    a known random diffeomorphism, in another contrast and on another grid, and stops it again.
    """
    require_stack()
    require_brain()
    from service.cli.demo_figures import document, show
    from service.cli.kernels import kernels
    from service.cli.phases import shown_phases
    from service.demo import run_demo

    is_first = not kernels().are_there
    with filling(out, overwrite=True) as folder, shown_phases(is_shown=not as_json) as phases:
        outcome = run_demo(folder, phases, is_quick=quick, is_first=is_first)
    outcome = replace(outcome, folder=out)
    if as_json:
        screen.print_json(document(outcome))
    else:
        show(outcome)
    if outcome.report.verdict.status == "fail":
        raise typer.Exit(screen.FAILED)


def require_brain() -> None:
    """Check for nilearn before anything takes time.

    Raises:
        MissingExtraError: If it is not installed.
    """
    if find_spec("nilearn") is None:
        raise MissingExtraError(
            'The demo\'s brain comes with nilearn: pip install "warpline[demo]".'
        )
