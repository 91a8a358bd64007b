"""Every option of a configuration with its type, default and meaning."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainer.config.document import TrainConfig


@dataclass(frozen=True)
class Option:
    """One line of the explanation; a section or a kind has no default."""

    path: str
    type: str
    default: str | None
    meaning: str


def explain(section: type[BaseModel] = TrainConfig, path: str = "") -> Iterator[Option]:
    """All options below a section, in the order in which they are declared."""
    for name, field in section.model_fields.items():
        if name == "kind" and _is_tag(field):
            continue  # told with the section that it chooses
        here = f"{path}.{name}" if path else name
        yield Option(here, _type_name(field.annotation), _default(field), field.description or "")
        for below in _sections(field.annotation):
            yield from _below(below, here, field)


def _below(section: type[BaseModel], path: str, field: FieldInfo) -> Iterator[Option]:
    many = "[]" if get_origin(_bare(field.annotation)) in (tuple, list) else ""
    kind = section.model_fields.get("kind")
    if kind is None or not _is_tag(kind):
        yield from explain(section, path + many)
        return
    name = str(get_args(kind.annotation)[0])
    meaning = (section.__doc__ or "").strip().splitlines()[0]
    yield Option(f"{path}{many} kind: {name}", "kind", None, meaning)
    yield from explain(section, f"{path}{many}({name})")


def _is_tag(field: FieldInfo) -> bool:
    """Whether `kind` chooses among sections: it can have one value only."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _bare(annotation: Any) -> Any:
    """Without Annotated and without None."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [a for a in get_args(annotation) if a is not type(None)]
        return _bare(kept[0]) if len(kept) == 1 else annotation
    return annotation


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a value may be, or hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _sections(part)


def _type_name(annotation: Any) -> str:
    bare = _bare(annotation)
    if get_origin(bare) is Literal:
        return " | ".join(str(value) for value in get_args(bare))
    if get_origin(bare) in (tuple, list):
        inner = [_type_name(part) for part in get_args(bare) if part is not Ellipsis]
        return "list of " + ", ".join(dict.fromkeys(inner))
    if get_origin(bare) in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(_type_name(part) for part in get_args(bare)))
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return "section"
    return getattr(bare, "__name__", str(bare))


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return None
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
