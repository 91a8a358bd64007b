"""What callers change about models, whichever face they came by."""

from service.gateway.desk import Desk
from service.stores import deletion, promotion
from service.stores.library import LibraryModel


def promote(
    desk: Desk, owner: str, name: str, version: str, alias: str, *, force: bool
) -> LibraryModel:
    """Point an alias to a version; see `promotion.promote`."""
    told = {"model": name, "version": version, "alias": alias, "force": force}
    with desk.audit.action(owner, "promote", **told):
        return promotion.promote(desk.models, name, version, alias, force=force)


def roll_back(desk: Desk, owner: str, name: str, alias: str, away_from: str | None) -> LibraryModel:
    """Point an alias where it pointed before; see `promotion.roll_back`."""
    with desk.audit.action(owner, "roll-back", model=name, alias=alias) as what:
        found = promotion.roll_back(desk.models, name, alias, away_from=away_from)
        what["version"] = found.version
    return found


def delete_version(desk: Desk, owner: str, name: str, version: str) -> None:
    """Forget a version that a training made; see `deletion.delete_model`."""
    with desk.audit.action(owner, "delete", model=name, version=version):
        stores = desk.stores
        deletion.delete_model(desk.models, stores.jobs, stores.blobs, name, version)
