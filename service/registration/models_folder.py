"""The folder of models: `<name>/<version>/{model.onnx, card.json, README.md}` and aliases.

Light until a model is loaded: the gateway lists models and reads cards from here.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, Protocol

from service.checksums import sha256_of
from service.errors import ModelInvalidError, ModelNotFoundError
from service.registration.card import Card
from service.registration.options import MODEL_NAME

if TYPE_CHECKING:
    from service.registration.engine import Engine

ProviderChoice = Literal["auto", "cpu", "openvino", "cuda"]

GRAPH, CARD, ALIASES = "model.onnx", "card.json", "aliases.json"
PRODUCTION = "production"


class Models(Protocol):
    """Where a registration gets its engine from."""

    def load(self, ref: str) -> "Engine":
        """An engine for NAME, NAME/VERSION or NAME@ALIAS; see `ModelFolder.load`."""
        ...

    def folder(self, ref: str) -> Path:
        """The folder of a model's files; raises as `load` does."""
        ...


def default_models_dir() -> Path:
    """The shipped models: beside the packages in a checkout, inside the package in a wheel."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "models"
    return checkout if checkout.is_dir() else package / "_models"


@dataclass(frozen=True)
class ModelVersion:
    """One model, its card, and the aliases that point to it."""

    name: str
    version: str
    card: Card
    aliases: tuple[str, ...]


class ModelFolder:
    """Models by reference: NAME, NAME/VERSION or NAME@ALIAS.

    NAME is the version with the alias `production`, or else the newest one. Versions never change;
    aliases move. Engines are kept, so a second `load` of a model is free.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        provider: ProviderChoice = "auto",
        threads: int | None = None,
        is_late: bool = False,
    ) -> None:
        """Look into `root`; nothing is read yet.

        Args:
            root: By default the shipped models.
            provider: Where engines run, if `load` does not say.
            threads: Of each engine, if `load` does not say; by default all cores.
            is_late: Let engines that may not be needed start at their first run.
        """
        self.root = default_models_dir() if root is None else root
        self._provider = provider
        self._threads = threads
        self._is_late = is_late
        self._engines: dict[tuple[Path, ProviderChoice, int | None], Engine] = {}
        self._lock = Lock()

    def list(self) -> list[ModelVersion]:
        """Every version of every model, by name, oldest first; broken ones are left out."""
        found = []
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            for version in self.versions(folder.name):
                try:
                    card = self._read_card(folder.name, version)
                    table = self.aliases(folder.name)
                except ModelInvalidError:
                    continue
                aliases = [alias for alias, which in table.items() if which == version]
                found.append(ModelVersion(folder.name, version, card, tuple(sorted(aliases))))
        return found

    def card(self, ref: str) -> Card:
        """The card of a model.

        Raises:
            ModelNotFoundError: If there is no such model, version or alias.
            ModelInvalidError: If its card is unreadable or belongs to another model.
        """
        return self._read_card(*self._resolve(ref))

    def folder(self, ref: str) -> Path:
        """The folder of a model's files.

        Raises:
            ModelNotFoundError: If there is no such model, version or alias.
        """
        return self.root.joinpath(*self._resolve(ref))

    def load(
        self, ref: str, provider: ProviderChoice | None = None, threads: int | None = None
    ) -> "Engine":
        """An engine for a model, checked against its card.

        Raises:
            ModelNotFoundError: If there is no such model, version or alias.
            ModelInvalidError: If the graph's checksum, inputs or outputs are not the card's.
            ProviderUnavailableError: If it cannot run where it was asked to.
            MissingExtraError: If onnxruntime is not installed.
        """
        name, version = self._resolve(ref)
        folder = self.root / name / version
        chosen = (folder, provider or self._provider, threads or self._threads)
        with self._lock:
            if chosen not in self._engines:
                card = self._read_card(name, version)
                is_late = self._is_late and card.spared_from is not None
                self._engines[chosen] = open_engine(
                    card, folder / GRAPH, *chosen[1:], is_late=is_late
                )
            return self._engines[chosen]

    def aliases(self, name: str) -> dict[str, str]:
        """Version by alias.

        Raises:
            ModelInvalidError: If aliases.json is not such a table.
        """
        path = self.root / name / ALIASES
        if not path.is_file():
            return {}
        try:
            table = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ModelInvalidError(f"The aliases of model {name} are not JSON.") from error
        if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
            raise ModelInvalidError(f"The aliases of model {name} are not a table of versions.")
        return table

    def set_alias(self, name: str, version: str, alias: str = PRODUCTION) -> None:
        """Point an alias to a version, whole or not at all; going back is the same call.

        Raises:
            ModelNotFoundError: If there is no such version.
        """
        self._resolve(f"{name}/{version}")
        table = self.aliases(name) | {alias: version}
        folder = self.root / name
        part = folder / f".{ALIASES}-{os.getpid()}"  # with the rights that files here usually have
        part.write_text(json.dumps(table, indent=2, sort_keys=True), "utf-8")
        part.replace(folder / ALIASES)

    def versions(self, name: str) -> Sequence[str]:
        """Versions with a card, oldest first: numbers count as numbers."""
        folder = self.root / name
        if not folder.is_dir():
            return []
        return sorted((p.parent.name for p in folder.glob(f"*/{CARD}")), key=_version_order)

    def _resolve(self, ref: str) -> tuple[str, str]:
        name, mark, which = split_ref(ref)
        return name, choose(
            name, mark, which, self.versions(name), self.aliases(name) if mark != "/" else {}
        )

    def _read_card(self, name: str, version: str) -> Card:
        card = Card.read(self.root / name / version / CARD)
        if (card.name, card.version) != (name, version):
            raise ModelInvalidError(
                f"The card of model {name}/{version} says {card.name}/{card.version}."
            )
        return card


def split_ref(ref: str) -> tuple[str, str, str]:
    """A reference as name, mark (`/`, `@` or none) and what follows the mark.

    Raises:
        ModelNotFoundError: If it is no reference.
    """
    found = re.fullmatch(r"([^/@]+)([/@]?)(.*)", ref)
    if found is None or not re.fullmatch(MODEL_NAME, ref):
        raise ModelNotFoundError("A model is named NAME, NAME/VERSION or NAME@ALIAS.")
    return found[1], found[2], found[3]


def choose(
    name: str, mark: str, which: str, versions: Sequence[str], aliases: Mapping[str, str]
) -> str:
    """The version that a reference stands for, of these; the last one is the default.

    Raises:
        ModelNotFoundError: If there is no such model, version or alias.
    """
    if not versions:
        raise ModelNotFoundError(
            f"There is no model {name}; `warpline models list` and GET /v1/models show all."
        )
    if mark == "":
        which = aliases.get(PRODUCTION, versions[-1])
    elif mark == "@":
        if which not in aliases:
            raise ModelNotFoundError(f"Model {name} has no alias {which}.")
        which = aliases[which]
    if which not in versions:
        raise ModelNotFoundError(f"Model {name} has no version {which}.")
    return which


def _version_order(version: str) -> tuple[tuple[int, int | str], ...]:
    parts = re.split(r"[.-]", version)
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts)


def open_engine(
    card: Card,
    graph: Path,
    provider: ProviderChoice,
    threads: int | None,
    *,
    is_late: bool = False,
    cuda_graphs: bool = False,
) -> "Engine":
    """Check the checksum, then make the engine, which checks the rest.

    Raises:
        ModelInvalidError: If the graph is missing, or is not what the card says.
        ProviderUnavailableError: If it cannot run where it was asked to.
    """
    from service.registration.engine import Engine  # the gateway never loads it

    try:
        found = sha256_of(graph)
    except OSError as error:
        raise ModelInvalidError(
            f"The graph of model {card.name}/{card.version} is missing."
        ) from error
    if found != card.sha256:
        raise ModelInvalidError(
            f"The graph of model {card.name}/{card.version} is not the one its card describes "
            "(sha256 differs). Install the model again."
        )
    return Engine(
        card, graph, provider=provider, threads=threads, is_late=is_late, cuda_graphs=cuda_graphs
    )
