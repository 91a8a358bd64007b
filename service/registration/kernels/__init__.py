"""Compiled loops over volumes and fields; `launch` says how they are compiled and started."""

import sys

# What numba would import for its own sake alone, if it is there: a twentieth of a short run.
_UNWANTED = ("coverage", "yaml")

_hidden = [name for name in _UNWANTED if name not in sys.modules]
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import numba  # noqa: F401
finally:
    for _name in _hidden:
        del sys.modules[_name]
