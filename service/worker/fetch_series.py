"""Brings series that lie in an archive to a job's folder."""

from dataclasses import dataclass, field
from pathlib import Path

from service.errors import WarplineError
from service.jobs.job import PacsSeries
from service.pacs.archive import SeriesLimits, Tick, open_archive
from service.pacs.peers import Peers


@dataclass(frozen=True)
class SeriesFetcher:
    """Which archives there are, and how much may come of one series."""

    peers: Peers = field(default_factory=Peers)
    limits: SeriesLimits = field(default_factory=SeriesLimits)

    def __call__(self, series: PacsSeries, role: str, owner: str, folder: Path, tick: Tick) -> None:
        """Fetch every instance into a new folder, as numbered files.

        Raises:
            WarplineError: As `service.pacs.archive.Archive.fetch`; `field` names the role.
        """
        try:
            archive = open_archive(self.peers.peer(series.pacs, owner))
            archive.fetch(series, folder, self.limits, tick)
        except WarplineError as error:
            error.field = error.field or role
            raise
