"""What a worker does to store a result: its objects out of the blob store, to the archive."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.archives import ArchiveLimits, is_zip, unpack_numbered
from service.audit.log import AuditLog
from service.errors import NothingToStoreError
from service.jobs.job import Job
from service.jobs.ports import BlobStore
from service.jobs.runner import Outcome, Watch
from service.pacs.archive import open_archive
from service.pacs.objects import Sending, to_send
from service.pacs.peers import Peers
from service.worker.fetch import UrlRules, fetch_input

# Of our own making: a slice each, and no more than a volume.
OWN_ARCHIVES = ArchiveLimits(max_files=20_000, max_bytes=64 << 30)


@dataclass(frozen=True)
class Storing:
    """`service.jobs.runner.Work` that sends a job's DICOM objects to an archive."""

    blobs: BlobStore
    peers: Peers
    audit: AuditLog

    def __call__(self, job: Job, folder: Path, watch: Watch) -> Outcome:
        """Send every object; ends well only once the archive keeps each of them."""
        name = str(job.request.options["pacs"])
        archive = open_archive(self.peers.peer(name, job.owner))
        objects = list(self._objects(job, folder, watch))
        if not objects:
            raise NothingToStoreError
        with self.audit.action(job.owner, "pacs.store", pacs=name, job=str(job.id)) as what:
            sent = archive.store(objects, lambda: watch("store", 0.5))
            what |= {"sent": sent.sent, "there_before": sent.there_before}
        watch("store", 1.0)
        return Outcome({}, {"pacs": name, "sent": sent.sent, "there_before": sent.there_before})

    def _objects(self, job: Job, folder: Path, watch: Watch) -> Iterator[Sending]:
        rules = UrlRules(frozenset(), 0)

        def tick() -> None:
            watch("fetch", 0.0)

        for n, (role, file) in enumerate(sorted(job.request.inputs.items())):
            path = folder / f"{n:02d}"
            fetch_input(file, role, path, self.blobs, rules, tick)
            with path.open("rb") as opened:
                is_archive = is_zip(opened.read(4))
            if is_archive:
                parts = folder / f"{n:02d}.parts"
                unpack_numbered(path, parts, OWN_ARCHIVES, tick)
                path.unlink()
                yield from map(to_send, sorted(parts.iterdir()))
            else:
                yield to_send(path)
