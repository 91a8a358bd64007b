"""The models of this process, and trackers made with them."""

from collections.abc import Callable
from threading import Lock

import numpy as np

from service.live.opening import Opening
from service.live.ports import TracksFrames
from service.registration.grid import Grid
from service.registration.kernels.launch import set_threads
from service.registration.models_folder import ModelFolder, Models
from service.registration.options import RegisterOptions
from service.registration.tracked import Reference, Wanted
from service.registration.tracking import Tracker
from service.registration.volume import Volume
from service.settings import Settings

WARM_SHAPE, WARM_SPACING_MM = (40, 36, 32), 4.0
EMBEDDED = "warpline.sqlite"  # as `service.stores.migrate.database_of` names it


class Engines:
    """Loads models once. `service.live.ports.MakesTracker`."""

    def __init__(self, config: Settings) -> None:
        """Take the threads that the settings grant."""
        set_threads(config.threads)
        self._config = config
        self._shipped = ModelFolder(
            config.models_dir, provider=config.provider, threads=config.threads
        )
        self._library: Models | None = None
        self._lock = Lock()

    def __call__(self, opening: Opening, reference: Reference) -> TracksFrames:
        """A tracker for a session.

        Raises:
            ModelInvalidError, ProviderUnavailableError: If the model does not start.
            InvalidRequestError: If reference, model and wishes do not fit together.
        """
        return Tracker(
            reference,
            opening.frame.grid,
            self._models().load(opening.options.model),
            opening.options,
            role=opening.role,
            wanted=opening.wanted,
            warm_start=opening.warm_start,
        )

    def load(self, opening: Opening) -> None:
        """Have a session's model ready before its reference is sent, away from the engine's thread.

        Raises:
            ModelNotFoundError: If there is no such model.
            ModelInvalidError, ProviderUnavailableError: If it does not start.
            UnavailableError: If the registry or the object store does not answer.
        """
        self._models().load(opening.options.model)

    def warm_up(self, model: str) -> None:
        """Load a model and every kernel, by registering frames that are made up.

        Raises:
            ModelNotFoundError, ModelInvalidError, ProviderUnavailableError, UnavailableError: As
                `load`.
        """
        options, grid = RegisterOptions(model=model), _grid()
        wanted = Wanted(field="full", warped_image=True, warped_labels=True)
        image = _blobs(grid)
        labels = image.with_data((image.data > 60).astype(np.uint8))
        reference = Reference(image, labels=labels)
        Tracker(
            reference,
            grid,
            self._models().load(model),
            options,
            role="moving",
            wanted=wanted,
            warm_start=True,
        ).calibrate(2)

    def _models(self) -> Models:
        """Shipped models; where a stack keeps a registry, as on its own machine, its models too.

        A process with no database needs none, and gets none made.
        """
        config = self._config
        if config.database_url is None and not (config.data_dir / EMBEDDED).is_file():
            return self._shipped
        with self._lock:
            if self._library is None:
                self._library = _library(config, self._shipped)
            return self._library


def _library(config: Settings, shipped: ModelFolder) -> Models:
    from service.stores.build import open_stores
    from service.stores.engines import LibraryEngines
    from service.stores.library import ModelLibrary

    stores = open_stores(config)
    return LibraryEngines(
        ModelLibrary(shipped, stores.models),
        stores.blobs,
        config.data_dir / "models",
        provider=config.provider,
        threads=config.threads,
        most=config.max_engines,
    )


def _grid() -> Grid:
    return Grid(WARM_SHAPE, np.diag([WARM_SPACING_MM] * 3 + [1.0]))


def _blobs(grid: Grid) -> Volume:
    """A few soft blobs."""
    at = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) - grid.centre_mm
    data = np.zeros(grid.shape)
    for place in ((20.0, 10.0, 0.0), (-20.0, 15.0, 10.0), (0.0, -25.0, -10.0)):
        data += 100 * np.exp(-((at - place) ** 2).sum(axis=-1) / 300)
    return Volume(data.astype(np.float32), grid)


LoadEngines = Callable[[Settings], Engines]
