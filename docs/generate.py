"""Writes what is generated from the code: `make docs`. A house test compares.

docs/errors.md           from service/errors
docs/settings.md         from service/settings.py
.env.example             from service/settings.py
docs/*report.schema.json from service/registration/report.py
docs/train.schema.json   from trainer/config
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from service import errors
from service.registration.report import Report, WarpReport
from service.settings import Settings
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[1]

ERRORS_HEAD = """# Errors

Generated from `service/errors` by `make docs`.

Every failed request answers with `application/problem+json` (RFC 9457), and a failed job carries
the same object:

```json
{
  "type": "urn:warpline:error:volume-too-large",
  "title": "The file announces more voxels than this service accepts.",
  "status": 413,
  "code": "volume-too-large",
  "detail": "What is wrong, where, and what to do.",
  "retryable": false,
  "field": "fixed"
}
```

`code` is stable: programs decide by it. `detail` is for people and may change. `field` names the
part of the request that is at fault. Where several faults were found, `errors` lists them, each
with `field` and `detail`. With `retryable`, the same request may succeed later, after
`Retry-After` seconds where that header is sent.

"""
ENV_HEAD = """\
# Settings of Warpline, with their defaults. Copy to .env and change what you need; what is
# commented out is unset. Generated from service/settings.py by `make docs`.
# docker-compose.yml needs a few more: see deploy/compose.env.example.
"""
SETTINGS_HEAD = """# Settings

Generated from `service/settings.py` by `make docs`. Every process reads the same settings, from
environment variables or a `.env` file in its working directory.

| variable | default | meaning |
|---|---|---|
"""


def main() -> None:
    """Write every generated file."""
    for path, text in generated().items():
        (ROOT / path).write_text(text, "utf-8")


def generated() -> dict[str, str]:
    """The generated files: path below the project's root, and text."""
    return {
        "docs/errors.md": errors_page(),
        "docs/settings.md": settings_page(),
        ".env.example": env_example(),
        "docs/report.schema.json": _schema(Report),
        "docs/warp-report.schema.json": _schema(WarpReport),
        "docs/train.schema.json": _schema(TrainConfig),
    }


def _schema(document: type[BaseModel]) -> str:
    return json.dumps(document.model_json_schema(), indent=2) + "\n"


def errors_page() -> str:
    """The table of errors, grouped as the tree is."""
    head = "| code | HTTP | gRPC | retry helps | meaning |\n|---|---|---|---|---|\n"
    groups = []
    for group in errors.WarplineError.__subclasses__():
        title = _sentence(group).rstrip(".")
        rows = "".join(_error_row(kind) for kind in _tree(group))
        groups.append(f"## {title}\n\n{head}{rows}")
    return ERRORS_HEAD + "\n".join(groups)


def _tree(kind: type[errors.WarplineError]) -> Iterator[type[errors.WarplineError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def _sentence(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _error_row(kind: type[errors.WarplineError]) -> str:
    retry = "yes" if kind.retryable else "no"
    return (
        f"| `{kind.slug}` | {kind.http_status} | {kind.grpc_code} | {retry} | {_sentence(kind)} |\n"
    )


def settings_page() -> str:
    """The table of settings."""
    rows = (
        f"| `{_variable(name)}` | {_default_words(field)} | {_description(field)} |\n"
        for name, field in Settings.model_fields.items()
    )
    return SETTINGS_HEAD + "".join(rows)


def env_example() -> str:
    """Every setting as a comment, with its default where it has one."""
    parts = [ENV_HEAD]
    for name, field in Settings.model_fields.items():
        value = "" if field.default is None else str(field.default)
        parts.append(f"\n# {_description(field)}\n# {_variable(name)}={value}\n")
    return "".join(parts)


def _variable(name: str) -> str:
    return f"WARPLINE_{name.upper()}"


def _description(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "or")


def _default_words(field: FieldInfo) -> str:
    return "" if field.default in (None, "") else f"`{field.default}`"


if __name__ == "__main__":
    main()
