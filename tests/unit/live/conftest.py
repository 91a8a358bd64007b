"""Patience of a live server with clients that share a busy machine with it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from service.live import connection, server

BUSY_S = 60.0


@pytest.fixture(autouse=True)
def _patient_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is late hears the last word all the same."""
    monkeypatch.setattr(connection, "GOODBYE_S", BUSY_S)
    monkeypatch.setattr(server, "FLUSH_S", BUSY_S)
    monkeypatch.setattr(server, "GRACE_S", BUSY_S)


@pytest.fixture
def nobody_is_silent() -> Callable[[], AbstractContextManager[None]]:
    """While inside, no client is cut for its silence: a busy machine may silence any."""

    @contextmanager
    def inside() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connection.Connection, "_is_silent", lambda _connection: False)
            yield

    return inside
