"""Ties the registration pipeline to this process's settings; imports the science."""

from service.audit.log import AuditLog
from service.jobs.runner import Work
from service.pacs.archive import SeriesLimits
from service.pacs.peers import Peers
from service.registration.files.limits import Limits
from service.registration.kernels.launch import set_threads
from service.registration.memory import keep_freed_memory
from service.registration.models_folder import ModelFolder
from service.settings import Settings
from service.stores.build import Stores
from service.stores.engines import LibraryEngines
from service.stores.library import ModelLibrary
from service.worker.fetch import UrlRules
from service.worker.fetch_series import SeriesFetcher
from service.worker.work import Registration


def models_of(config: Settings, stores: Stores) -> LibraryEngines:
    """Every model that a worker may be asked for, shipped or registered."""
    return LibraryEngines(
        ModelLibrary(ModelFolder(config.models_dir), stores.models),
        stores.blobs,
        config.data_dir / "models",
        provider=config.provider,
        threads=config.threads,
        most=config.max_engines,
        cuda_graphs=config.cuda_graphs,
    )


def make_work(config: Settings, stores: Stores) -> Work:
    """The work of one process; call it after any fork, which sessions and threads do not survive.

    The last engines are kept, so a process loads the models that it uses once.
    """
    keep_freed_memory()
    set_threads(config.threads)
    return Registration(
        stores.blobs,
        models_of(config, stores),
        Limits(max_voxels=config.max_voxels, max_axis=config.max_axis),
        UrlRules.of(config.allowed_url_hosts, config.max_upload_mib),
        SeriesFetcher(
            Peers.of(config),
            SeriesLimits(max_bytes=config.max_upload_mib << 20),
            AuditLog.of(config),
        ),
        secret=config.deidentification_secret,
    )
