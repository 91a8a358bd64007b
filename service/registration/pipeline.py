"""One registration, from files to files.

read -> initialise -> predict -> refine -> warp -> measure -> judge -> draw -> write
"""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from secrets import token_bytes

from service.registration.alignment import SEARCHED, Alignment, align, chosen, prepare
from service.registration.baseline import Baseline
from service.registration.card import Provider
from service.registration.delivery import Writer, deliver, write_all, write_report
from service.registration.descent import Level
from service.registration.device_level import level_for
from service.registration.dicom_results import dicom_writers
from service.registration.engine import Engine
from service.registration.files.limits import Limits
from service.registration.kept_fixed import KeptFixed
from service.registration.kernels.launch import switch_often, threads_beside
from service.registration.measure import evidence, measure
from service.registration.memory import keep_freed_memory
from service.registration.models_folder import Models
from service.registration.options import RegisterOptions
from service.registration.pair import Pair, read_pair
from service.registration.prepared import PreparedFixed
from service.registration.products import Products, produce
from service.registration.progress import StageClock, Watch, unwatched
from service.registration.provenance import checksums, provenance
from service.registration.quality import Verdict, judge
from service.registration.regularity import Regularity, regularity
from service.registration.report import (
    FileReport,
    Metrics,
    ModelUsed,
    Provenance,
    Report,
    VerdictReport,
)


def register_files(
    files: Mapping[str, Path],
    options: RegisterOptions,
    folder: Path,
    models: Models,
    *,
    limits: Limits | None = None,
    watch: Watch = unwatched,
    job_id: str | None = None,
    kept: KeptFixed | None = None,
    secret: bytes | None = None,
) -> Report:
    """Register the pair in `files` and write its results into `folder`.

    Args:
        files: Path by role: fixed, moving, and what else there is (see roles.REGISTER_ROLES).
        options: What the caller chose.
        folder: Made if missing; files of the same names are replaced.
        models: Where the model is looked up.
        limits: What is refused as too large.
        watch: Told the stage and the fraction of the whole; may raise to stop the work.
        job_id: Goes into the report.
        kept: Keeps the fixed image and what is made of it for the next pair with the same.
        secret: For `deidentify`: with one secret a patient and a UID always become the same.

    Raises:
        InvalidRequestError: If the pair cannot be registered; see `read_pair`, `prepare`, `align`.
        ModelNotFoundError: If there is no such model.
    """
    keep_freed_memory()
    switch_often()
    folder.mkdir(parents=True, exist_ok=True)
    with threads_beside(1) as beside:
        run = _Run(files, options, folder, StageClock(watch), beside)
        pair, engine = run.read(models, limits or Limits(), kept)
        fixed = None if kept is None else kept.prepared(pair, options, engine)
        baseline, alignment = run.align(pair, engine, fixed)
        with run.clock.stage("warp"):
            products = produce(pair, alignment, options)
        found, gallery = run.finish(baseline, alignment, products, engine, secret)
    report = Report(
        job_id=job_id,
        model=_model_used(engine),
        answered_by=alignment.answered_by,
        stages=run.clock.stages,
        metrics=found.metrics,
        verdict=found.verdict,
        warnings=run.warnings,
        files=found.written,
        provenance=found.provenance,
    )
    _write_page(report, gallery, folder)
    write_report(report, folder)
    return report


@dataclass(frozen=True)
class _Found:
    """What is known of products once they are measured, drawn and written."""

    metrics: Metrics
    verdict: VerdictReport
    provenance: Provenance
    written: dict[str, FileReport]


@dataclass(frozen=True)
class _Run:
    """What one registration was asked, and what it tells as it goes.

    `beside` does what nothing waits for until the report is written.
    """

    files: Mapping[str, Path]
    options: RegisterOptions
    folder: Path
    clock: StageClock
    beside: Executor
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def inputs(self) -> "Future[dict[str, str]]":
        """The checksums of the files, once they are there."""
        return self.beside.submit(checksums, self.files)

    def read(self, models: Models, limits: Limits, kept: KeptFixed | None) -> tuple[Pair, Engine]:
        """The pair, and the model, which is opened meanwhile."""
        with threads_beside(1) as background:
            opening = background.submit(models.load, self.options.model)
            with self.clock.stage("read") as reading:
                tick = partial(reading.tell, 0.0)
                known = {} if kept is None else kept.known(self.files, self.options, limits)
                pair = read_pair(
                    self.files, self.options, limits, self.warnings, known=known, tick=tick
                )
            _ = self.inputs  # begun
            return pair, opening.result()

    def align(
        self, pair: Pair, engine: Engine, fixed: PreparedFixed | None
    ) -> tuple[Baseline, Alignment]:
        """Where the pair lies, and what is told of it meanwhile."""
        prepared = prepare(pair, self.options, engine, fixed)
        if self.options.refine != "none":  # the search leaves a core idle half of the time
            self.beside.submit(prepared.make_levels)
        if chosen(self.options, engine) in SEARCHED:  # what is found is compared with that
            self.beside.submit(prepared.similarity, prepared.initial)
        baseline = Baseline(pair, prepared, self.options, self.beside)
        told = self.clock, self.warnings
        placed = baseline.place
        return baseline, align(prepared, self.options, engine, *told, placed=placed)

    def finish(
        self,
        baseline: Baseline,
        alignment: Alignment,
        products: Products,
        engine: Engine,
        secret: bytes | None,
    ) -> tuple[_Found, bytes]:
        """Measure and judge; the results are whole, so they are written and drawn meanwhile.

        The page's pictures come as its markup.
        """
        pair = baseline.pair
        with threads_beside(3) as background:
            writing = background.submit(deliver, products, self.folder)
            shape = background.submit(regularity, products.ddf, pair.fixed_mask)
            drawing = background.submit(_drawn, baseline, products, shape)
            with self.clock.stage("measure") as stage:
                metrics = measure(baseline, alignment, products, shape, stage.watch)
                verdict = judge(evidence(metrics, pair, alignment.affine))
            with self.clock.stage("draw") as stage:
                gallery, overlay = drawing.result()
                stage.detail = "beside measuring"
            with self.clock.stage("write") as stage:
                found = self._told(metrics, verdict, _ran_on(engine, alignment))
                late = dict(self._dicom_writers(pair, products, found, engine, secret))
                late["overlay.png"] = lambda path: _write(path, overlay)
                written = writing.result() | write_all(late, self.folder)
                stage.detail = "beside measuring and drawing"
        return replace(found, written=written), gallery

    def _told(self, metrics: Metrics, verdict: Verdict, ran_on: Provider) -> _Found:
        """What the report says of them, but for the files."""
        told = VerdictReport(status=verdict.status, reasons=verdict.reasons, codes=verdict.codes)
        made = provenance(self.inputs.result(), self.options, provider=ran_on)
        return _Found(metrics, told, made, {})

    def _dicom_writers(
        self,
        pair: Pair,
        products: Products,
        found: _Found,
        engine: Engine,
        secret: bytes | None,
    ) -> Mapping[str, Writer]:
        """Of the DICOM objects, which hold the figures and the verdict."""
        made = found.provenance, _model_used(engine)
        key = _key(self.options, secret)
        return dicom_writers(pair, products, found.metrics, found.verdict, made, key=key)


def _ran_on(engine: Engine, alignment: Alignment) -> Provider:
    """Where the network ran or, where it was spared, the refinement that answered."""
    refined_there = alignment.answered_by == "refine" and level_for(engine) is not Level
    return engine.provider if engine.has_started or refined_there else "cpu"


def _key(options: RegisterOptions, secret: bytes | None) -> bytes | None:
    """What new UIDs and names are made with; None leaves the patient in the objects."""
    return (secret or token_bytes(32)) if options.deidentify else None


def _drawn(
    baseline: Baseline, products: Products, shape: Future[Regularity]
) -> tuple[bytes, bytes]:
    # What draws is imported meanwhile, too.
    from service.registration.drawing import drawn

    return drawn(baseline, products, shape)


def _write_page(report: Report, gallery: bytes, folder: Path) -> None:
    from service.registration.page import render_page

    (folder / "report.html").write_bytes(render_page(report, gallery))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _model_used(engine: Engine) -> ModelUsed:
    card = engine.card
    return ModelUsed(name=card.name, version=card.version, sha256=card.sha256)
