"""What coverage need not watch: its tracer slows all Python by half, also what it does not measure.

While a kernel is compiled or a network exported, it rests. What an exporter calls back of ours,
other tests call as well.
"""

import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

# Module, what it holds that takes long, by name.
LONG = (
    ("numba.core.dispatcher", "Dispatcher.compile"),
    ("torch.onnx", "export"),
)


def spare_the_long() -> None:
    """Stop tracing inside each of them whose package was imported."""
    for module, path in LONG:
        if module.partition(".")[0] in sys.modules:
            holder: Any = import_module(module)
            *outer, name = path.split(".")
            for part in outer:
                holder = getattr(holder, part)
            setattr(holder, name, untraced(getattr(holder, name)))


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, called without a tracer, which goes on afterwards."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(tracer)

    return call
