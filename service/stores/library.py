"""All models by reference: the shipped folder and the registry, as one library.

Light: the gateway lists and resolves here; `service.stores.engines` makes engines.
"""

from dataclasses import dataclass

import pydantic

from service.errors import ModelInvalidError, ModelNotFoundError
from service.jobs.model import PRODUCTION, RegisteredModel
from service.jobs.ports import ModelRegistry
from service.registration.card import Card
from service.registration.models_folder import ModelFolder, ModelVersion, choose, split_ref


@dataclass(frozen=True)
class LibraryModel:
    """One version of a model. Without `registered` it is a shipped one."""

    name: str
    version: str
    card: Card
    aliases: tuple[str, ...]
    registered: RegisteredModel | None = None

    @property
    def ref(self) -> str:
        return f"{self.name}/{self.version}"


class ModelLibrary:
    """Models by reference: NAME, NAME/VERSION or NAME@ALIAS.

    The registry is asked each time, so what it learns counts from the next call on. Its aliases
    come before those of the folder, and its versions before shipped ones of the same number. NAME
    is the version with the alias `production`; without one the newest shipped version, so that
    nobody's training takes a shipped name's place by itself; else the newest registered one.
    """

    def __init__(self, folder: ModelFolder, registry: ModelRegistry) -> None:
        self.folder = folder
        self.registry = registry

    def list(self) -> list[LibraryModel]:
        """Every version of every model, by name, shipped before registered; no broken ones."""
        moved = self.registry.aliases()
        registered = {(model.name, model.version): model for model in self.registry.list()}
        found = [
            LibraryModel(
                shipped.name, shipped.version, shipped.card, self._aliases_of(shipped, moved)
            )
            for shipped in self.folder.list()
            if (shipped.name, shipped.version) not in registered
        ]
        for model in registered.values():
            try:
                card = card_of(model)
            except ModelInvalidError:
                continue
            aliases = self._aliases_of(model, moved)
            found.append(LibraryModel(model.name, model.version, card, aliases, model))
        return sorted(found, key=lambda model: model.name)  # stable: versions stay in order

    def find(self, ref: str) -> LibraryModel:
        """The model that a reference stands for now.

        Raises:
            ModelNotFoundError: If there is no such model, version or alias.
            ModelInvalidError: If its card is unreadable or belongs to another model.
        """
        name, mark, which = split_ref(ref)
        shelf = self.registry.shelf(name)
        shipped = self.folder.versions(name)
        aliases = self.folder.aliases(name) | shelf.aliases
        version = choose(name, mark, which, [*shelf.versions, *shipped], aliases)
        names = tuple(sorted(alias for alias, where in aliases.items() if where == version))
        if version in shelf.versions:
            model = self.registry.model(name, version)
            return LibraryModel(name, version, card_of(model), names, model)
        return LibraryModel(name, version, self.folder.card(f"{name}/{version}"), names)

    def card(self, ref: str) -> Card:
        """The card of a model; raises as `find` does."""
        return self.find(ref).card

    def serving(self, name: str) -> LibraryModel | None:
        """What a bare NAME stands for now; None if there is no such model."""
        try:
            return self.find(name)
        except ModelNotFoundError:
            return None

    def in_production(self, name: str) -> str | None:
        """The version that was chosen: by the alias, or by being shipped; None if none was."""
        chosen = (self.folder.aliases(name) | self.registry.shelf(name).aliases).get(PRODUCTION)
        return chosen or next(reversed(self.folder.versions(name)), None)

    def last_shipped_number(self, name: str) -> int:
        """The highest number that a shipped version of this name begins with; 0 if none does."""
        first = (version.partition(".")[0] for version in self.folder.versions(name))
        return max((int(number) for number in first if number.isdecimal()), default=0)

    def _aliases_of(
        self, model: ModelVersion | RegisteredModel, moved: dict[str, dict[str, str]]
    ) -> tuple[str, ...]:
        table = self.folder.aliases(model.name) | moved.get(model.name, {})
        return tuple(sorted(alias for alias, where in table.items() if where == model.version))


def card_of(model: RegisteredModel) -> Card:
    """A registered model's card.

    Raises:
        ModelInvalidError: If it does not say what a card must, or is another model's.
    """
    try:
        card = Card.model_validate(model.card)
    except pydantic.ValidationError as error:
        raise ModelInvalidError(f"The card of model {model.id} is not valid.") from error
    if (card.name, card.version) != (model.name, model.version):
        raise ModelInvalidError(f"The card of model {model.id} says {card.name}/{card.version}.")
    return card
