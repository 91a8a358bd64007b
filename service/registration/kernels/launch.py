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

SMALL_ARRAY = 50_000  # values; one thread is done with fewer before another is awake

# Functions that kernels call.
devices: set[Callable[..., Any]] = set()

# One launch on several threads at a time. Numba's `workqueue` layer (where libgomp is missing) ends
# the process when two threads launch at once; OpenMP would take it, but only oversubscribe cores.
_launching = threading.Lock()


@dataclass
class _Grant:
    """How many threads this process may use; None grants all."""

    most: int | None = None


_grant = _Grant()
UNTOLD = -1
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
    Small arrays are left to the thread that launches it: to wake another takes 0.05 ms, of the
    clock and of the processor. OpenMP does not survive a fork: launch kernels after it, not before.
    """
    return _launched(function, _are_small)


def kernel_unless(
    is_small: Callable[..., bool],
) -> Callable[[Callable[Inputs, Result]], Callable[Inputs, Result]]:
    """A `kernel` that tells itself, from its arguments, when one thread is enough."""
    return lambda function: _launched(function, is_small)


def _launched(
    function: Callable[Inputs, Result], is_small: Callable[..., bool]
) -> Callable[Inputs, Result]:
    executables: dict[object, Callable[..., Any]] = {}

    @wraps(function)
    def launch(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        kind = kind_of(args)
        executable, is_alone = executables.get(kind), is_small(*args)
        result: Result
        if executable is not None and is_alone and _use_threads(1):
            result = executable(*args, **kwargs)
            return result
        with _launching:
            if executable is None:
                from service.registration.kernels import machine_code

                executable = executables[kind] = machine_code.executable(function, kind, args)
                _heeded.__dict__.clear()  # compiling tells OpenMP a number of its own
            # As many the first time as later: the last digits of some sums depend on it.
            _use_threads(1 if is_alone else _grant.most)
            result = executable(*args, **kwargs)
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

    _use_threads(_grant.most)
    return machine_code.thread_pool().threads()


def set_threads(most: int | None) -> None:
    """Use at most so many threads for kernels, whichever thread of this process launches them.

    Args:
        most: None grants all that there are.
    """
    _grant.most = most


def _are_small(*values: Any) -> bool:
    """Whether no array among the values, or in tuples of them, has as many as SMALL_ARRAY."""
    for value in values:
        if isinstance(value, np.ndarray):
            if value.size >= SMALL_ARRAY:
                return False
        elif isinstance(value, tuple) and not _are_small(*value):
            return False
    return True


def _use_threads(most: int | None) -> bool:
    """Tell OpenMP, which keeps a number for each thread that launches, also one begun later.

    Gives whether launches of one thread may overlap others.
    """
    if getattr(_heeded, "most", UNTOLD) == most:
        return bool(_heeded.may_overlap)
    from service.registration.kernels import machine_code

    pool = machine_code.thread_pool()
    pool.set_threads(pool.most if most is None else max(1, min(most, pool.most)))
    _heeded.most, _heeded.may_overlap = most, pool.may_overlap
    return pool.may_overlap
