"""Patience of the bridge with peers that share a busy machine with it."""

import pytest

from service.igtl import peers
from tests.fakes.igtl_peers import PATIENCE_S


@pytest.fixture(autouse=True)
def _patient_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LAST_WORD_S", PATIENCE_S)
