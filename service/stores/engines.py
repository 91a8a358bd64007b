"""The engines of one process: models are fetched when a job names them, and the last ones kept."""

import os
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from service.checksums import sha256_of
from service.errors import ModelInvalidError, ResultNotFoundError
from service.jobs.model import RegisteredModel
from service.jobs.ports import BlobStore
from service.registration.models_folder import CARD, GRAPH, ProviderChoice, open_engine
from service.stores.library import LibraryModel, ModelLibrary

if TYPE_CHECKING:
    from service.registration.engine import Engine

# Model folders in the cache, for each engine that is kept in memory.
FOLDERS_PER_ENGINE = 4
FETCHING = ".fetching-"


class LibraryEngines:
    """`service.registration.models_folder.Models` over the whole library.

    What a reference stands for is looked up for each job, so a promotion counts from the next job
    on. An engine is kept until `most` others were used after it.
    """

    def __init__(
        self,
        library: ModelLibrary,
        blobs: BlobStore,
        cache: Path,
        *,
        provider: ProviderChoice = "auto",
        threads: int | None = None,
        most: int = 4,
        cuda_graphs: bool = False,
    ) -> None:
        """Nothing is read yet.

        Args:
            library: Where references are looked up.
            blobs: Where the files of registered models are.
            cache: Folder for copies of them; processes of one machine may share it.
            provider: Where engines run.
            threads: Of each engine; by default all cores.
            most: Engines in memory.
            cuda_graphs: See `Engine`.
        """
        self.library = library
        self._blobs = blobs
        self._cache = cache
        self._provider = provider
        self._threads = threads
        self._most = most
        self._cuda_graphs = cuda_graphs
        self._engines: OrderedDict[tuple[str, str], Engine] = OrderedDict()
        self._lock = Lock()

    def load(self, ref: str) -> "Engine":
        """An engine for a model, checked against its card.

        Raises:
            ModelNotFoundError: If there is no such model, version or alias.
            ModelInvalidError: If its files are gone, or are not what its card says.
            ProviderUnavailableError: If it cannot run where it was asked to.
            UnavailableError: If the registry or the object store does not answer.
        """
        model = self.library.find(ref)
        chosen = (model.ref, model.card.sha256)
        with self._lock:
            if chosen not in self._engines:
                self._engines[chosen] = self._open(model)
            self._engines.move_to_end(chosen)
            while len(self._engines) > self._most:
                self._engines.popitem(last=False)
            return self._engines[chosen]

    def folder(self, ref: str) -> Path:
        """A folder with the model's `model.onnx` and `card.json`; raises as `load` does."""
        return self._folder(self.library.find(ref))

    def _folder(self, model: LibraryModel) -> Path:
        if model.registered is None:
            return self.library.folder.root / model.name / model.version
        return self._fetched(model.registered)

    def _open(self, model: LibraryModel) -> "Engine":
        graph = self._folder(model) / GRAPH
        try:
            return self._opened(model, graph)
        except ModelInvalidError:
            if graph.is_file():
                raise
            # Another process of this machine has just tidied the cache: once more.
            return self._opened(model, self._folder(model) / GRAPH)

    def _opened(self, model: LibraryModel, graph: Path) -> "Engine":
        return open_engine(
            model.card, graph, self._provider, self._threads, cuda_graphs=self._cuda_graphs
        )

    def _fetched(self, model: RegisteredModel) -> Path:
        """The model's folder in the cache, fetched if it is not there whole."""
        folder = self._cache / f"{model.name}-{model.version}-{_digest(model)[:16]}"
        if not _is_whole(folder, model):
            shutil.rmtree(folder, ignore_errors=True)
            self._fetch(model, folder)
            self._tidy(folder)
        os.utime(folder)  # used last
        return folder

    def _fetch(self, model: RegisteredModel, folder: Path) -> None:
        """Copy the files beside the folder, check them, and only then give it its name."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=FETCHING, dir=self._cache) as name:
            part = Path(name) / "model"
            part.mkdir()
            for file_name, file in model.files.items():
                try:
                    self._blobs.get_file(file.key, part / file_name)
                except ResultNotFoundError as error:
                    raise ModelInvalidError(
                        f"The file {file_name} of model {model.id} is not stored any more."
                    ) from error
            if not _is_whole(part, model):
                raise ModelInvalidError(
                    f"The files of model {model.id} are not the ones that were published "
                    "(sha256 differs)."
                )
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                # Another process of this machine was faster.

    def _tidy(self, newest: Path) -> None:
        """Remove the folders that were used longest ago, and what killed fetches left."""
        folders = [(path.stat().st_mtime, path) for path in self._cache.iterdir() if path != newest]
        keep = self._most * FOLDERS_PER_ENGINE - 1
        for _used, path in sorted(folders, reverse=True)[keep:]:
            shutil.rmtree(path, ignore_errors=True)


def _digest(model: RegisteredModel) -> str:
    graph = model.files.get(GRAPH)
    if graph is None or CARD not in model.files:
        raise ModelInvalidError(f"Model {model.id} was published without its graph or its card.")
    return graph.sha256


def _is_whole(folder: Path, model: RegisteredModel) -> bool:
    """Whether every file is there as it was published."""
    try:
        return all(sha256_of(folder / name) == file.sha256 for name, file in model.files.items())
    except OSError:
        return False
