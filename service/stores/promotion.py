"""Which version goes into production: only one that did not do worse on the same pairs."""

from service.errors import (
    ComparisonOutdatedError,
    ModelWorseError,
    NotComparedError,
)
from service.jobs.model import PRODUCTION, Verdict
from service.stores.library import LibraryModel, ModelLibrary


def promote(
    library: ModelLibrary, name: str, version: str, alias: str = PRODUCTION, *, force: bool = False
) -> LibraryModel:
    """Point an alias to a version; jobs from now on use it.

    `production` moves to a registered version only if its training compared it with the version
    that is in production now, and found it no worse. Shipped versions have no comparison and may
    always be chosen; so may any version with `force`, and for any other alias.

    Raises:
        ModelNotFoundError: If there is no such version.
        NotComparedError: If it was compared with nothing.
        ComparisonOutdatedError: If it was compared with another version than this.
        ModelWorseError: If it did worse.
        ConflictError: If somebody has moved the alias in the meantime.
    """
    seen = library.registry.shelf(name).aliases.get(alias)
    wanted = library.find(f"{name}/{version}")
    if alias in wanted.aliases:
        return wanted
    if alias == PRODUCTION and not force:
        _require_no_worse(wanted, library.in_production(name))
    library.registry.set_alias(name, alias, version, instead_of=seen)
    return library.find(f"{name}/{version}")


def roll_back(
    library: ModelLibrary, name: str, alias: str = PRODUCTION, *, away_from: str | None = None
) -> LibraryModel:
    """Undo the alias's last move; gives what it stands for now, or else what NAME does.

    If it does not point to the version `away_from`, nothing changes.

    Raises:
        ModelNotFoundError: If there is no such model.
        NothingToRollBackError: If the alias was never moved here.
    """
    library.find(name)
    version = library.registry.roll_back(name, alias, away_from=away_from)
    return library.find(name if version is None else f"{name}/{version}")


def _require_no_worse(wanted: LibraryModel, current: str | None) -> None:
    if wanted.registered is None or wanted.version == current:
        return
    comparison = wanted.registered.comparison
    if comparison is None:
        if current is None:
            return  # nothing is in production that it could be worse than
        raise NotComparedError(
            f"{wanted.ref} was never measured beside {wanted.name}/{current}, which is in "
            "production: train it again, or send `force: true`.",
            field="/version",
        )
    if current is not None and comparison.against != f"{wanted.name}/{current}":
        raise ComparisonOutdatedError(
            f"{wanted.ref} was measured beside {comparison.against or 'nothing'}, but "
            f"{wanted.name}/{current} is in production now: train it again, or send "
            "`force: true`.",
            field="/version",
        )
    if comparison.verdict is Verdict.WORSE:
        raise ModelWorseError(
            f"{wanted.ref} did worse than {comparison.against} on the same {comparison.pairs} "
            "pairs: train it longer or on more data, or send `force: true`.",
            field="/version",
        )
