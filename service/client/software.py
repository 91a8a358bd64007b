"""Who calls."""

from importlib.metadata import PackageNotFoundError, version


def software() -> str:
    """`warpline/VERSION`."""
    try:
        return f"warpline/{version('warpline')}"
    except PackageNotFoundError:
        return "warpline"
