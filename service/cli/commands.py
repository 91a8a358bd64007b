"""The commands by name, each imported when it is asked for: `warpline register` loads one."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer
from typer.main import get_group

# In the order of the help. Where the module has an `app`, it holds commands of its own; else the
# function has the command's name.
NAMES = (
    "register",
    "cohort",
    "warp",
    "train",
    "evaluate",
    "crossval",
    "demo",
    "up",
    "stream",
    "igtl",
    "jobs",
    "models",
    "datasets",
    "pacs",
    "doctor",
    "audit",
    "keys",
    "version",
)


class Commands(dict[str, Any]):
    """What click calls a group's commands; an entry is made when it is first looked at."""

    def __missing__(self, name: str) -> Any:
        if name not in NAMES:
            raise KeyError(name)
        self[name] = made = _made(name)
        return made

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in NAMES else default

    def __contains__(self, name: object) -> bool:
        return name in NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    def keys(self) -> Any:
        return dict.fromkeys(NAMES).keys()

    def values(self) -> Any:
        return [self[name] for name in NAMES]

    def items(self) -> Any:
        return [(name, self[name]) for name in NAMES]


def _made(name: str) -> Any:
    """The click command of a name."""
    module = import_module(f"service.cli.{name}")
    alone = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)
    if hasattr(module, "app"):
        alone.add_typer(module.app, name=name)
    else:
        alone.command(name)(getattr(module, name))
        alone.callback()(_nothing)
    return get_group(alone).commands[name]


def _nothing() -> None: ...
