"""`warpline version`."""

import platform
from importlib import metadata

from service.cli import screen
from service.cli.shared_options import Json


def version(as_json: Json = False) -> None:
    """Say which version this is."""
    found = metadata.version("warpline")
    if as_json:
        screen.print_json({"warpline": found, "python": platform.python_version()})
    else:
        screen.stdout().print(f"warpline {found}")
