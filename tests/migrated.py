"""New embedded databases are copies of one that was migrated: tests open more than a thousand."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from service.stores.database import Database, sqlite_url
from service.stores.migrate import migrate


@cache
def _migrated() -> bytes:
    """A file with the newest schema and no rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.sqlite"
        database = Database(sqlite_url(path))
        migrate(database)
        database.close()
        return path.read_bytes()


def copied_or(migrate: Callable[[Database], None]) -> Callable[[Database], None]:
    """Migrate, but where there is no file yet: put one there that has nothing left to migrate."""

    def call(database: Database) -> None:
        path = Path(database.engine.url.database or "")
        if database.is_sqlite and not path.exists():
            part = path.with_name(f".{path.name}-{os.urandom(4).hex()}")
            part.write_bytes(_migrated())
            with suppress(FileExistsError):  # whole or not at all, and never over another's
                path.hardlink_to(part)
            part.unlink()
        migrate(database)

    return call
