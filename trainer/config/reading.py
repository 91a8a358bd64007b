"""Read, merge and check configurations; every fault with a pointer to its place."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from service.errors import ValidationError
from trainer.config.document import CROSS_CHECK, TrainConfig

Document = Mapping[str, Any]

# Besides its own: what the values' own types raise, as of 2026-02-30, and nesting without end.
NOT_YAML = (yaml.YAMLError, ValueError, AttributeError, RecursionError)

_ADVICE = {
    "extra_forbidden": "There is no such option; `warpline train --explain` lists them.",
    "missing": "This option is needed.",
}


def read_config(paths: Sequence[Path], changes: Sequence[str] = ()) -> TrainConfig:
    """The configuration of several YAML files, later ones first in rank.

    Args:
        paths: Mappings are merged key by key; anything else is replaced.
        changes: `section.option=value`, value in YAML, above every file.

    Raises:
        ValidationError: If a file is no YAML mapping or the whole is not a configuration.
        OSError: If a file cannot be read.
    """
    document: Document = {}
    for path in paths:
        document = merge(document, _mapping(path))
    for change in changes:
        document = merge(document, _change(change))
    return parse_config(document)


def merge(below: Document, above: Document) -> dict[str, Any]:
    """`above` over `below`: mappings key by key, anything else replaced whole."""
    merged = dict(below)
    for key, value in above.items():
        old: Any = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both and _is_same_kind(old, value) else value
    return merged


def _is_same_kind(below: Document, above: Document) -> bool:
    """Options of another kind would not fit: they go with the kind that they belong to."""
    return above.get("kind") in (None, below.get("kind"))


def parse_config(document: Any, prefix: str = "") -> TrainConfig:
    """Check a document.

    Args:
        document: What YAML or JSON gave.
        prefix: Goes before each pointer, as `/config` of a request body.

    Raises:
        ValidationError: Its `errors` name every fault by JSON pointer (RFC 6901).
    """
    try:
        return TrainConfig.model_validate(document)
    except pydantic.ValidationError as error:
        faults = [
            {"field": prefix + pointer, "detail": detail}
            for pointer, detail in _faults(error, document)
        ]
    first = faults[0]
    more = f" There are {len(faults) - 1} more faults." if len(faults) > 1 else ""
    raise ValidationError(
        f"The configuration is wrong at {first['field'] or 'its top'}: {first['detail']}{more}",
        field=first["field"] or None,
        errors=tuple(faults),
    )


def _faults(error: pydantic.ValidationError, document: Any) -> Iterator[tuple[str, str]]:
    for fault in error.errors(include_url=False, include_input=False):
        if fault["type"] == CROSS_CHECK:
            yield from fault["ctx"]["faults"]
            continue
        sentence = _ADVICE.get(fault["type"]) or _sentence(fault["msg"])
        pointer = _pointer(fault["loc"], document)
        if fault["type"].startswith("union_tag"):
            pointer += "/kind"
        yield pointer, sentence


def _sentence(message: str) -> str:
    """Of our own checks without the words that pydantic begins them with."""
    own = message.removeprefix("Value error, ").removesuffix(".")
    return f"{own[:1].upper()}{own[1:]}."


def _pointer(places: Sequence[str | int], document: Any) -> str:
    """The place in the document; the tags of unions in pydantic's path are not part of it."""
    pointer = ""
    here: Any = document
    is_tag_past = False
    for n, place in enumerate(places):
        is_last = n == len(places) - 1
        if isinstance(here, Mapping) and here.get("kind") == place and not is_tag_past:
            is_tag_past = True
            continue
        if isinstance(here, Mapping) and (place in here or is_last) and isinstance(place, str):
            here = here.get(place)
        elif isinstance(here, list | tuple) and isinstance(place, int):
            here = here[place] if place < len(here) else None
        else:
            continue
        is_tag_past = False
        pointer += "/" + str(place).replace("~", "~0").replace("/", "~1")
    return pointer


def _mapping(path: Path) -> Document:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValidationError(f"{path.name} is not text in UTF-8; save it as such.") from error
    try:
        document = yaml.safe_load(text)
    except NOT_YAML as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" near line {line + 1}"
        raise ValidationError(
            f"{path.name} is not YAML{where}. Check its indents, and quote words that are no dates."
        ) from error
    if not isinstance(document, Mapping):
        raise ValidationError(
            f"{path.name} must be a YAML mapping of sections such as data, network."
        )
    return document


def _change(change: str) -> Document:
    path, mark, text = change.partition("=")
    if not mark or not path:
        raise ValidationError(f"A change is section.option=value; {change!r} is none.")
    try:
        value: Any = yaml.safe_load(text)
    except NOT_YAML as error:
        raise ValidationError(f"The value of {path} is not YAML; quote it.") from error
    for key in reversed(path.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]
