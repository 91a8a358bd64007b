"""What the demo prints."""

from typing import Any

from service.cli import screen
from service.cli.results import VERDICTS, figures
from service.demo import Outcome


def document(outcome: Outcome) -> dict[str, Any]:
    """The outcome for scripts."""
    report = outcome.report
    return {
        "verdict": report.verdict.model_dump(mode="json"),
        "error_mm_before": vars(outcome.before),
        "error_mm_after": vars(outcome.after),
        "points": outcome.points,
        "metrics": report.metrics.model_dump(mode="json"),
        "stages": [stage.model_dump(mode="json") for stage in report.stages],
        "job_seconds": outcome.job_seconds,
        "seconds": outcome.seconds,
        "out": str(outcome.folder),
    }


def show(outcome: Outcome) -> None:
    """Two tables and the verdict."""
    report, console = outcome.report, screen.stdout()
    before, after = outcome.before, outcome.after
    shown = screen.table(f"against the truth at {outcome.points} points", "before", "after")
    shown.add_row("error, median, mm", f"{before.median:.2f}", f"{after.median:.2f}")
    shown.add_row(
        "error, 95th percentile, mm", f"{before.percentile_95:.2f}", f"{after.percentile_95:.2f}"
    )
    for row in figures(report):
        shown.add_row(*row)
    console.print(shown)
    times = screen.table("stage", "seconds", "")
    times.columns[-1].justify = "left"
    for stage in report.stages:
        times.add_row(stage.name, f"{stage.seconds:.2f}", stage.detail)
    times.add_row("the whole job", f"{outcome.job_seconds:.2f}", "from claim to commit")
    console.print(times)
    colour, words = VERDICTS[report.verdict.status]
    screen.print_styled(report.verdict.status, f"bold {colour}", words)
    for reason in report.verdict.reasons:
        console.print(f"  - {reason}")
    folder = outcome.folder
    console.print(f"Picture: {folder / 'overlay.png'}", soft_wrap=True)
    console.print(f"Report:  {folder / 'report.html'}", soft_wrap=True)
    console.print(f"Results: {folder}", soft_wrap=True)
