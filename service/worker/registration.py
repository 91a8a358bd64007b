"""Ties the registration pipeline to this process's settings; imports the science."""

import numba

from service.jobs.runner import Work
from service.registration.files.limits import Limits
from service.registration.models_folder import ModelFolder
from service.settings import Settings
from service.stores.build import Stores
from service.worker.fetch import UrlRules
from service.worker.work import Registration


def make_work(config: Settings, stores: Stores) -> Work:
    """The work of one process; call it after any fork, which sessions and threads do not survive.

    Engines are kept by the model folder, so a process loads each model once.
    """
    if config.threads is not None:
        numba.set_num_threads(min(config.threads, numba.get_num_threads()))
    return Registration(
        stores.blobs,
        ModelFolder(config.models_dir, provider=config.provider, threads=config.threads),
        Limits(max_voxels=config.max_voxels, max_axis=config.max_axis),
        UrlRules.of(config.allowed_url_hosts, config.max_upload_mib),
    )
