"""`warpline jobs`: what a server is doing for you."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import screen
from service.cli.results import filling
from service.cli.shared_options import DEFAULT_URL, ApiKey, Json, ServerUrl, connect
from service.cli.train import progress_line
from service.cli.warp import require_job_id
from service.jobs.job import State

if TYPE_CHECKING:
    from service.client.views import Job

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]

app = typer.Typer(no_args_is_help=True, help="List, watch, fetch and cancel jobs of a server.")


@app.command("list")
def list_(
    state: Annotated[list[State] | None, typer.Option(help="Only these; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    url: ServerUrl = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List your jobs, newest first.

    warpline jobs list --state running --state queued
    """
    with connect(url, api_key) as client:
        page = client.jobs(state or (), limit=limit)
    if as_json:
        screen.print_json(page.model_dump(mode="json"))
        return
    shown = screen.listing("job", "kind", "state", "progress", "verdict", "made (UTC)")
    for job in page.jobs:
        made = job.created_at.strftime("%Y-%m-%d %H:%M:%S")
        shown.add_row(str(job.id), job.kind, job.state, _progress(job), _verdict(job), made)
    screen.stdout().print(shown)


@app.command("show")
def show(
    job_id: JobId, url: ServerUrl = DEFAULT_URL, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Show one job: state, stage, place in the queue, and why it failed if it did."""
    with connect(url, api_key) as client:
        job = client.job(require_job_id(job_id))
    _show(job, as_json=as_json)


@app.command("watch")
def watch(
    job_id: JobId, url: ServerUrl = DEFAULT_URL, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Wait for a job and show how far it is; exit code 1 if it fails."""
    wanted = require_job_id(job_id)
    with connect(url, api_key) as client, screen.progress_bar(is_shown=not as_json) as tell:
        job = client.wait(wanted, lambda job: tell(progress_line(job), job.fraction))
    _show(job, as_json=as_json)


@app.command("cancel")
def cancel(
    job_id: JobId, url: ServerUrl = DEFAULT_URL, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Stop a job that waits or runs; it ends within seconds."""
    with connect(url, api_key) as client:
        job = client.cancel(require_job_id(job_id))
    _show(job, as_json=as_json)


@app.command("delete")
def delete(
    job_id: JobId, url: ServerUrl = DEFAULT_URL, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Remove a job that has ended, with its files."""
    with connect(url, api_key) as client:
        client.delete(require_job_id(job_id))
    if as_json:
        screen.print_json({"deleted": job_id})


@app.command("results")
def results(
    job_id: JobId, url: ServerUrl = DEFAULT_URL, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """List a job's result files; with --json also their URLs, which need no key for a while."""
    with connect(url, api_key) as client:
        found = client.results(require_job_id(job_id))
    if as_json:
        screen.print_json(found.model_dump(mode="json"))
        return
    shown = screen.table("file", "bytes", "sha256")
    for name, file in found.files.items():
        shown.add_row(name, f"{file.bytes:,}", file.sha256[:16])
    screen.stdout().print(shown)


@app.command("download")
def download(
    job_id: JobId,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the files go.")],
    file: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that has files.")
    ] = False,
    url: ServerUrl = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Fetch a job's results, checked against their sums."""
    wanted = require_job_id(job_id)
    with filling(out, overwrite=overwrite) as folder, connect(url, api_key) as client:
        names = sorted(client.download(wanted, folder, file or ()))
    if as_json:
        screen.print_json({"out": str(out), "files": names})
    else:
        screen.stdout().print(f"Wrote {', '.join(names)} to {out}", soft_wrap=True)


def _show(job: "Job", *, as_json: bool) -> None:
    if as_json:
        screen.print_json(job.model_dump(mode="json"))
        return
    shown = screen.listing("", "")
    shown.show_header = False
    for name, value in _rows(job):
        shown.add_row(name, value)
    screen.stdout().print(shown)


def _rows(job: "Job") -> list[tuple[str, str]]:
    rows = [("job", str(job.id)), ("kind", job.kind), ("state", job.state)]
    if job.place is not None:
        rows.append(("place in the queue", str(job.place.position)))
    if not job.has_ended:
        rows.append(("progress", _progress(job)))
    if job.detail:
        rows.append(("figures", progress_line(job)))
    if job.seconds_left is not None:
        rows.append(("seconds left, about", f"{job.seconds_left:.0f}"))
    if job.attempt > 1:
        rows.append(("attempt", str(job.attempt)))
    if _verdict(job):
        rows.append(("verdict", _verdict(job)))
    if job.problem:
        problem: dict[str, Any] = job.problem
        rows.append(("problem", f"{problem.get('code')}: {problem.get('detail')}"))
    return rows


def _progress(job: "Job") -> str:
    return f"{job.stage} {job.fraction:.0%}" if not job.has_ended else ""


def _verdict(job: "Job") -> str:
    verdict = (job.summary or {}).get("verdict") or {}
    return str(verdict.get("status", ""))
