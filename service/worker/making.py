"""Makes the work of one worker process, by the queues that it serves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.archives import ArchiveLimits
from service.audit.log import AuditLog
from service.errors import InternalError
from service.jobs.job import Job, Kind, Queue
from service.jobs.runner import Outcome, Watch, Work
from service.pacs.peers import Peers
from service.settings import Settings
from service.stores.build import Stores
from service.worker.fetch import UrlRules
from service.worker.storing import Storing
from service.worker.training import TRAINER, Training, TrainingLimits
from service.worker.training_data import DataFetcher
from service.worker.worker import queues_of


@dataclass(frozen=True)
class ByKind:
    """`service.jobs.runner.Work` that hands each job to whoever knows its kind."""

    works: Mapping[Kind, Work]

    def __call__(self, job: Job, folder: Path, watch: Watch) -> Outcome:
        work = self.works.get(job.request.kind)
        if work is None:
            raise InternalError("This worker serves a queue whose jobs it cannot do.")
        return work(job, folder, watch)


def make_work(config: Settings, stores: Stores) -> Work:
    """The work of one process; call it after any fork.

    Compiled kernels and runtimes are imported here, so that they belong to this process only.
    """
    queues, works = set(queues_of(config)), dict[Kind, Work]()
    if queues - {Queue.TRAIN}:
        from service.worker.registration import make_work as make_registration

        works |= dict.fromkeys((Kind.REGISTER, Kind.WARP), make_registration(config, stores))
        works[Kind.STORE] = Storing(stores.blobs, Peers.of(config), AuditLog.of(config))
    if Queue.TRAIN in queues:
        works[Kind.TRAIN] = make_training(config, stores)
    return ByKind(works)


def make_training(config: Settings, stores: Stores, command: tuple[str, ...] = TRAINER) -> Training:
    """The work for trainings; the trainer itself is a child process."""
    limits = ArchiveLimits(config.max_dataset_files, config.max_dataset_mib << 20)
    rules = UrlRules.of(config.allowed_url_hosts, config.max_upload_mib)
    return Training(
        stores.blobs,
        DataFetcher(stores.blobs, rules, limits),
        TrainingLimits(config.train_max_hours, config.train_memory_mib, config.trainer_threads),
        _production(config, stores),
        command,
    )


def _production(config: Settings, stores: Stores) -> Callable[[str], Path | None]:
    """The folder of the model that a name stands for in production, fetched if need be."""

    def folder(name: str) -> Path | None:
        from service.worker.registration import models_of  # only where a training begins

        models = models_of(config, stores)
        version = models.library.in_production(name)
        return None if version is None else models.folder(f"{name}/{version}")

    return folder
