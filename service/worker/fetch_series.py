"""Brings series that lie in an archive to a job's folder."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from service.audit.log import AuditLog
from service.errors import WarplineError
from service.jobs.job import PacsSeries
from service.pacs.archive import SeriesLimits, Tick, open_archive
from service.pacs.peers import Peers


@dataclass(frozen=True)
class SeriesFetcher:
    """Which archives there are, how much may come of one series, and where that is recorded."""

    peers: Peers = field(default_factory=Peers)
    limits: SeriesLimits = field(default_factory=SeriesLimits)
    audit: AuditLog | None = None

    def __call__(self, series: PacsSeries, role: str, owner: str, folder: Path, tick: Tick) -> None:
        """Fetch every instance into a new folder, as numbered files.

        Raises:
            WarplineError: As `service.pacs.archive.Archive.fetch`; `field` names the role.
        """
        try:
            archive = open_archive(self.peers.peer(series.pacs, owner))
            with self._recorded(series, owner):
                archive.fetch(series, folder, self.limits, tick)
        except WarplineError as error:
            error.field = error.field or role
            raise

    def _recorded(self, series: PacsSeries, owner: str) -> AbstractContextManager[object]:
        if self.audit is None:
            return nullcontext()
        told = {name: self.audit.pseudonym(getattr(series, name)) for name in ("study", "series")}
        return self.audit.action(owner, "pacs.fetch", pacs=series.pacs, **told)
