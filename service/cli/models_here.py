"""The models of this machine: the shipped folder, and what its embedded stack has made."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.registration.models_folder import ModelFolder, Models
from service.settings import Settings

if TYPE_CHECKING:
    from service.stores.build import Stores
    from service.stores.library import ModelLibrary


@contextmanager
def library_here(settings: Settings) -> Iterator["ModelLibrary | None"]:
    """The library of shipped and registered models; None where no stack keeps a registry."""
    with stores_here(settings) as stores:
        if stores is None:
            yield None
            return
        from service.stores.library import ModelLibrary

        yield ModelLibrary(ModelFolder(settings.models_dir), stores.models)


@contextmanager
def engines_here(settings: Settings) -> Iterator[Models]:
    """What a registration in this process gets its engine from; kernels get their threads."""
    from service.registration.kernels.launch import set_threads

    set_threads(settings.threads)
    with stores_here(settings) as stores:
        if stores is None:
            yield ModelFolder(
                settings.models_dir,
                provider=settings.provider,
                threads=settings.threads,
                is_late=True,
            )
            return
        from service.worker.registration import models_of

        yield models_of(settings, stores)


@contextmanager
def stores_here(settings: Settings) -> Iterator["Stores | None"]:
    """The stores, if there is a database: a fresh machine needs none, and gets none made."""
    if settings.database_url is None and not (settings.data_dir / "warpline.sqlite").is_file():
        yield None
        return
    from service.stores.build import open_stores

    stores = open_stores(settings)
    try:
        yield stores
    finally:
        stores.close()
