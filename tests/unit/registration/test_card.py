"""A card says everything an engine needs, and nothing else gets in."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.checksums import sha256_of
from service.errors import ModelInvalidError
from service.registration.card import Card
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


def test_a_card_is_written_as_it_was_shipped() -> None:
    """What came after format 1 is left out where it is not said: the bytes stay the same."""
    path = SHIPPED / "card.json"
    assert Card.read(path).written().encode() == path.read_bytes()


def _changed(**parts: object) -> Card:
    return Card.model_validate(json.loads((SHIPPED / "card.json").read_text()) | parts)


FIXED, MOVING, LABEL = ({"name": n, "role": n} for n in ("fixed", "moving", "moving_label"))
PLANE = ["batch", "channel", "i", "j"]


def test_models_of_every_kind_and_of_slices_can_be_described() -> None:
    matrix = {"name": "affine", "kind": "affine", "axes": ["batch", "row", "column"]}
    assert _changed(output=matrix, initialise="centre").ndim == 3
    label = {"name": "probability", "kind": "warped_label"}
    assert _changed(output=label, inputs=[FIXED, MOVING, LABEL]).input_name("moving_label")
    flat = {"name": "displacement", "kind": "velocity", "axes": PLANE}
    assert _changed(output=flat, inputs=[x | {"axes": PLANE} for x in (FIXED, MOVING)]).ndim == 2


@pytest.mark.parametrize(
    "parts",
    [
        {"inputs": [FIXED]},
        {"inputs": [FIXED, FIXED]},
        {"inputs": [FIXED, MOVING, LABEL]},
        {"inputs": [FIXED, MOVING | {"name": "fixed"}]},
        {"inputs": [FIXED, MOVING | {"axes": PLANE}]},
        {"output": {"name": "affine", "kind": "affine"}},
        {"output": {"name": "p", "kind": "warped_label"}},
        {"output": {"name": "u", "kind": "displacement", "axes": PLANE}},
        {"initialise": "model"},
    ],
)
def test_a_card_whose_parts_contradict_each_other_is_refused(parts: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _changed(**parts)


def test_the_schema_can_be_published() -> None:
    schema = Card.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"sha256", "grid", "output", "licence"} <= set(schema["required"])
