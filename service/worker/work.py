"""What a worker does for one job: fetch, register or warp, and say what came out."""

from dataclasses import dataclass, field
from pathlib import Path

from service.jobs.job import Job, Kind, Queue
from service.jobs.ports import BlobStore
from service.jobs.runner import Outcome, Output, Watch
from service.registration.files.limits import Limits
from service.registration.kept_fixed import KeptFixed
from service.registration.models_folder import Models
from service.registration.options import RegisterOptions, WarpOptions
from service.registration.pipeline import register_files
from service.registration.report import Report, WarpReport
from service.registration.warping import warp_files
from service.worker.fetch import UrlRules, fetch_input
from service.worker.fetch_series import SeriesFetcher

MEDIA_TYPES = {
    ".gz": "application/gzip",
    ".json": "application/json",
    ".html": "text/html",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".png": "image/png",
    ".dcm": "application/dicom",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class Registration:
    """`service.jobs.runner.Work` with the registration pipeline."""

    blobs: BlobStore
    models: Models
    limits: Limits
    urls: UrlRules
    series: SeriesFetcher = field(default_factory=SeriesFetcher)
    kept: KeptFixed = field(default_factory=KeptFixed)
    secret: bytes | None = field(default=None, repr=False)

    def __call__(self, job: Job, folder: Path, watch: Watch) -> Outcome:
        """Do the job in `folder`: inputs under `in`, results under `out`."""
        files = self._fetch(job, folder / "in", watch)
        out = folder / "out"
        if job.request.kind == Kind.WARP:
            warp = WarpOptions.model_validate(job.request.options)
            report: Report | WarpReport = warp_files(
                files, warp, out, limits=self.limits, watch=watch, job_id=str(job.id)
            )
        else:
            options = RegisterOptions.model_validate(job.request.options)
            report = register_files(
                files,
                options,
                out,
                self.models,
                limits=self.limits,
                watch=watch,
                job_id=str(job.id),
                kept=self._kept_for(job),
                secret=self.secret,
            )
        return Outcome(_outputs(out, report), report.summary())

    def _kept_for(self, job: Job) -> KeptFixed | None:
        """Of batch jobs the fixed image is kept: the next one may be of the same cohort."""
        if job.queue is Queue.BATCH:
            return self.kept
        self.kept.forget()
        return None

    def _fetch(self, job: Job, folder: Path, watch: Watch) -> dict[str, Path]:
        folder.mkdir()
        files = {}
        for role, file in job.request.inputs.items():
            watch("fetch", 0.0)
            files[role] = folder / role
            if file.pacs is not None:
                self.series(file.pacs, role, job.owner, files[role], lambda: watch("fetch", 0.0))
                continue
            fetch_input(file, role, files[role], self.blobs, self.urls, lambda: watch("fetch", 0.0))
        return files


def _outputs(folder: Path, report: Report | WarpReport) -> dict[str, Output]:
    """Every file there; the report knows the checksums of most, taken as they were written."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file():
            told = report.files.get(path.name)
            media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
            found[path.name] = Output(path, media_type, None if told is None else told.sha256)
    return found
