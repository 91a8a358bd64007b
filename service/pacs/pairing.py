"""Makes jobs of series that belong together, by the listener's rules."""

import logging
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from service.audit.log import AuditLog
from service.checksums import sha256_of
from service.errors import IdempotencyKeyReusedError, WarplineError
from service.jobs.intake import Intake
from service.jobs.job import InputFile, Kind, Queue, Request, Upload
from service.pacs.incoming import Incoming, Series, hashed
from service.pacs.rules import Listener, Rule
from service.stores.build import Stores

log = logging.getLogger(__name__)

WRITTEN_AT = (1980, 1, 1, 0, 0, 0)
# Should this process die before the job is stored, this is how long its files stay.
ORPHAN_TTL = timedelta(hours=1)


@dataclass(frozen=True)
class Match:
    """Two series and the rule that makes them a pair."""

    rule: Rule
    fixed: Series
    moving: Series

    @property
    def key(self) -> str:
        """The same for the same objects under the same rule: the job's idempotency key."""
        return hashed(self.rule.name, self.fixed.contents, self.moving.contents)


def matches(rules: Sequence[Rule], series: Sequence[Series]) -> Iterator[Match]:
    """Every pair among the series that a rule names."""
    for rule in rules:
        known = [one for one in series if rule.calling in (None, one.facts.calling)]
        for fixed in (one for one in known if _fits(rule, "fixed", one)):
            for moving in (one for one in known if _fits(rule, "moving", one)):
                if moving.key != fixed.key and _together(rule, fixed, moving):
                    yield Match(rule, fixed, moving)


def _fits(rule: Rule, role: str, series: Series) -> bool:
    facts = series.facts
    pattern = rule.fixed if role == "fixed" else rule.moving
    return pattern.fits(facts.description, facts.modality, facts.protocol)


def _together(rule: Rule, fixed: Series, moving: Series) -> bool:
    """The study alone, or the patient's ID, says that two series are of one person."""
    if rule.within == "study":
        return fixed.facts.study == moving.facts.study
    return bool(fixed.facts.patient) and fixed.facts.patient == moving.facts.patient


@dataclass(frozen=True)
class Pairing:
    """Looks for pairs that are whole, and hands them in."""

    config: Listener
    incoming: Incoming
    stores: Stores
    intake: Intake
    audit: AuditLog | None = None

    def look(self) -> int:
        """Make a job of each pair that is whole and new; how many."""
        whole = [
            one
            for one in self.incoming.series()
            if not one.is_open and one.quiet_s >= self.config.quiet_s
        ]
        made = 0
        for match in matches(self.config.rules, whole):
            if not self.incoming.is_done(match.key):
                made += self._hand_in(match)
        for key in self.incoming.forget(self.config.keep_h * 3600):
            log.info("listener forgot series=%s", key[:12])
        return made

    def _hand_in(self, match: Match) -> bool:
        try:
            with TemporaryDirectory(prefix="warpline-pair-") as scratch:
                job_id = self._submit(match, Path(scratch))
        except IdempotencyKeyReusedError:
            # The same objects came before, only written otherwise.
            self.incoming.done(match.key)
            return False
        except WarplineError as error:  # what cannot be taken now is tried again
            log.warning("listener rule=%s %s", match.rule.name, error.slug)
            return False
        self.incoming.done(match.key)
        log.info("listener rule=%s job=%s", match.rule.name, job_id)
        if self.audit is not None:
            what = {"kind": "register", "job": job_id, "rule": match.rule.name}
            series = {"fixed": match.fixed.key, "moving": match.moving.key}
            self.audit.note(match.rule.owner, "submit", what | {"series": series})
        return True

    def _submit(self, match: Match, scratch: Path) -> str:
        rule = match.rule
        uploads: list[Upload] = []
        inputs: dict[str, InputFile] = {}
        try:
            for role, series in (("fixed", match.fixed), ("moving", match.moving)):
                packed = _packed(series, scratch / f"{role}.zip")
                size = packed.stat().st_size
                upload = self.stores.uploads.open(rule.owner, size, ORPHAN_TTL)
                uploads.append(upload)
                self.stores.blobs.put_file(upload.key, packed)
                inputs[role] = InputFile(key=upload.key, sha256=sha256_of(packed), bytes=size)
            request = Request(
                kind=Kind.REGISTER,
                inputs=inputs,
                options=rule.options.model_dump(mode="json"),
                store_to=rule.store_to,
            )
            job, is_replayed = self.intake.submit(
                request, rule.owner, queue=Queue(rule.queue), idempotency_key=match.key
            )
        except BaseException:
            self._drop(uploads, are_needed=False)
            raise
        self._drop(uploads, are_needed=not is_replayed)
        return str(job.id)

    def _drop(self, uploads: list[Upload], *, are_needed: bool) -> None:
        """Forget that the files were uploads; remove those that no job holds."""
        if not are_needed:
            self.stores.blobs.delete([upload.key for upload in uploads])
        for upload in uploads:
            self.stores.uploads.delete(upload.id)


def _packed(series: Series, target: Path) -> Path:
    """The series as a zip that is the same for the same objects."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number, path in enumerate(series.objects, 1):
            entry = zipfile.ZipInfo(f"{number:08d}", WRITTEN_AT)
            with archive.open(entry, "w", force_zip64=True) as into, path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    into.write(chunk)
    return target
