"""Ties the registration pipeline to this process's settings; imports the science."""

from functools import lru_cache
from pathlib import Path

import numba

from service.jobs.runner import Work
from service.registration.files.limits import Limits
from service.registration.models_folder import ModelFolder
from service.settings import Settings
from service.stores.build import Stores
from service.worker.fetch import UrlRules
from service.worker.work import Registration

SHIPPED_MODELS = Path(__file__).parents[2] / "models"


def make_work(config: Settings, stores: Stores) -> Work:
    """The work of one process; call it after any fork."""
    if config.threads is not None:
        numba.set_num_threads(min(config.threads, numba.get_num_threads()))
    folder = config.models_dir or SHIPPED_MODELS
    return Registration(
        stores.blobs,
        lru_cache(lambda: ModelFolder(folder)),
        Limits(max_voxels=config.max_voxels, max_axis=config.max_axis),
        UrlRules.of(config.allowed_url_hosts, config.max_upload_mib),
    )
