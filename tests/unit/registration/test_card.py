"""A card says everything an engine needs, and nothing else gets in."""

import json
from pathlib import Path

import pytest

from service.errors import ModelInvalidError
from service.registration.card import Card, sha256_of
from service.registration.models_folder import default_models_dir

SHIPPED = default_models_dir() / "discrete" / "1"


def test_the_shipped_card_is_read_and_describes_the_shipped_graph() -> None:
    card = Card.read(SHIPPED / "card.json")
    assert (card.name, card.version) == ("discrete", "1")
    assert card.sha256 == sha256_of(SHIPPED / "model.onnx")
    assert card.input_name("fixed") != card.input_name("moving")


def test_a_field_that_the_schema_does_not_know_is_refused_and_named(tmp_path: Path) -> None:
    body = json.loads((SHIPPED / "card.json").read_text())
    body["grid"]["spacng_mm"] = 2.0
    (tmp_path / "card.json").write_text(json.dumps(body))
    with pytest.raises(ModelInvalidError, match=r"grid\.spacng_mm"):
        Card.read(tmp_path / "card.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_card_that_is_no_card_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(ModelInvalidError):
        Card.read(tmp_path / "card.json")


def test_a_missing_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalidError, match=r"no readable card\.json"):
        Card.read(tmp_path / "card.json")


def test_the_schema_can_be_published() -> None:
    schema = Card.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"sha256", "grid", "output", "licence"} <= set(schema["required"])
