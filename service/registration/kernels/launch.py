"""How kernels are started.

Sums and the like are written as loops in kernels: numpy's bring in numba's implementations of them.

Numba is imported when something is compiled, and only then: machine code that an earlier run left
on disk is linked without it, in a hundredth of the time; see `machine_code`.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

# OpenMP's threads spin between two launches, for milliseconds, on cores that the Python between
# them, or another process, could use: beside others a registration then takes twice as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")

# A loop whose turns may run side by side; numba's own takes its place when it compiles.
prange = range

# What tells two layouts apart for the compiler: C or Fortran order, aligned, writeable.
C_ORDER, F_ORDER, ALIGNED, WRITEABLE = 0x1, 0x2, 0x100, 0x400
LAYOUT = C_ORDER | F_ORDER | ALIGNED | WRITEABLE

# Functions that kernels call.
devices: set[Callable[..., Any]] = set()

# One parallel launch at a time. Numba's `workqueue` layer (where libgomp is missing) ends the
# process when two threads launch at once; OpenMP would take it, but only oversubscribe the cores.
_launching = threading.Lock()


@dataclass
class _Grant:
    """How many threads this process may use; None grants all."""

    most: int | None = None


_grant = _Grant()
_heeded = threading.local()  # what each thread has told OpenMP of it


def device(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A function that kernels call, of this module or another; compiled into them."""
    devices.add(function)
    return function


def kernel(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A threaded kernel: compiled once for each machine, safe to call from any thread.

    It uses as many threads as `set_threads` grants this process, all by default, and lets other
    Python threads run meanwhile. It takes arrays, numbers and tuples of them, by position,
    and returns nothing: to hand out an array, numba's machine code would have numba imported.
    OpenMP does not survive a fork: launch kernels after it, not before.
    """
    executables: dict[object, Callable[..., Any]] = {}

    @wraps(function)
    def launch(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        kind = kind_of(args)
        with _launching:
            _heed_what_is_granted()
            executable = executables.get(kind)
            if executable is None:
                from service.registration.kernels import machine_code

                executable = executables[kind] = machine_code.executable(function, kind, args)
            result: Result = executable(*args, **kwargs)
            return result

    return launch


def kind_of(value: Any) -> object:
    """What a value is to the compiler: values of one kind are served by the same machine code."""
    if isinstance(value, np.ndarray):
        layout = value.flags.num & LAYOUT
        return value.dtype.str, value.ndim, layout & ~F_ORDER if layout & C_ORDER else layout
    if isinstance(value, tuple):
        return tuple(map(kind_of, value))
    return value.dtype.str if isinstance(value, np.generic) else type(value).__name__


def threads() -> int:
    """How many threads a kernel uses that is launched from this thread."""
    from service.registration.kernels import machine_code

    _heed_what_is_granted()
    return machine_code.thread_pool().threads()


def set_threads(most: int | None) -> None:
    """Use at most so many threads for kernels, whichever thread of this process launches them.

    Args:
        most: None grants all that there are.
    """
    _grant.most = most


def _heed_what_is_granted() -> None:
    """Tell OpenMP, which keeps a number for each thread that launches, also one begun later."""
    most = _grant.most
    if getattr(_heeded, "most", None) == most:
        return
    from service.registration.kernels import machine_code

    pool = machine_code.thread_pool()
    pool.set_threads(pool.most if most is None else max(1, min(most, pool.most)))
    _heeded.most = most
