"""Which versions of a model may be deleted, and what goes with them."""

import logging
from collections.abc import Collection

from service.errors import ConflictError, ModelInUseError, UnavailableError
from service.jobs.job import State
from service.jobs.ports import BlobStore, JobStore
from service.stores.library import LibraryModel, ModelLibrary

log = logging.getLogger(__name__)

UNFINISHED = (State.QUEUED, State.RUNNING)
PAGE = 100


def delete_model(
    library: ModelLibrary, jobs: JobStore, blobs: BlobStore, name: str, version: str
) -> None:
    """Forget a version that a job made, and remove its files.

    A job that is ordered while this runs may still fail with `model-not-found`. Files that cannot
    be removed now are left to the reaper.

    Raises:
        ModelNotFoundError: If there is no such version.
        ModelInUseError: If an alias points to it, or an unfinished job asks for it.
        ConflictError: If it came with the software.
    """
    found = library.find(f"{name}/{version}")
    if found.registered is None:
        raise ConflictError(f"{found.ref} came with the software and cannot be deleted.")
    if found.aliases:
        raise ModelInUseError(
            f"{found.ref} is {' and '.join(found.aliases)}: point the alias to another version "
            "first."
        )
    if _is_asked_for(jobs, _references(library, found)):
        raise ModelInUseError(f"An unfinished job uses {found.ref}: wait for it, or cancel it.")
    gone = library.registry.delete(name, version)
    try:
        blobs.delete([file.key for file in gone.files.values()])
    except UnavailableError as error:
        log.warning("model=%s files stay until they are swept: %s", found.ref, error.slug)


def _references(library: ModelLibrary, model: LibraryModel) -> set[str]:
    """What a job may call it by; aliases do not point to it."""
    serving = library.serving(model.name)
    is_serving = serving is not None and serving.version == model.version
    return {model.ref} | ({model.name} if is_serving else set())


def _is_asked_for(jobs: JobStore, references: Collection[str]) -> bool:
    cursor = None
    while True:
        page = jobs.page(None, states=UNFINISHED, limit=PAGE, cursor=cursor)
        if any(job.request.options.get("model") in references for job in page.jobs):
            return True
        if page.cursor is None:
            return False
        cursor = page.cursor
