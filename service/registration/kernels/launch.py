"""How kernels are started.

Sums and the like are written as loops in kernels: numpy's bring in numba's implementations of them.

Numba is imported when something is compiled, and only then: machine code that an earlier run left
on disk is linked without it, in a hundredth of the time; see `machine_code`.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    from service.registration.kernels.machine_code import ThreadPool

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

# How long a thread that runs Python keeps it from one that comes out of a kernel.
SWITCH_INTERVAL_S = 5e-5

SMALL_ARRAY = 50_000  # values; one thread is done with fewer before another is awake

# Functions that kernels call; those among them that may add up in any order.
devices: set[Callable[..., Any]] = set()
reductions: set[Callable[..., Any]] = set()

# What kernels are compiled from, by what launches them.
kernels: dict[Callable[..., Any], Callable[..., Any]] = {}

# Kernels are compiled one at a time, and launched so where OpenMP is missing: numba's `workqueue`
# layer ends the process when two threads launch at once.
_one_at_a_time = threading.Lock()


@dataclass
class _Grant:
    """How many threads this process may use; None grants all."""

    most: int | None = None


_grant = _Grant()
_here = threading.local()  # of each thread: the `count` that OpenMP was told; if `is_beside`


def device(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A function that kernels call, of this module or another; compiled into them."""
    devices.add(function)
    return function


def reduction(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A `device` that may add up in any order, so that it becomes SIMD: ten times as fast.

    The order is the same each time, and in all threads; another processor may have another one.
    """
    reductions.add(function)
    return device(function)


def kernel(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A threaded kernel: compiled once for each machine, safe to call from any thread.

    It uses as many threads as `set_threads` grants this process, all by default, or half of them
    on a thread of `threads_beside`; how many there are changes no result, for what kernels add up
    they add up by planes. Other Python threads run meanwhile, and so do their kernels. It takes
    arrays, numbers and tuples of them, by position, and returns nothing: to hand out an array,
    numba's machine code would have numba imported. Small arrays are left to the thread that
    launches it: to wake another takes 0.05 ms, of the clock and of the processor. OpenMP does not
    survive a fork: launch kernels after it, not before.

    A kernel may call those of other modules, outside of its own loops: they follow each other in
    one launch, without Python between them.
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
        executable = executables.get(kind)
        if executable is None:
            executable = executables[kind] = _executable(function, kind, args)
        with _threads_for(is_alone=is_small(*args)):
            result: Result = executable(*args, **kwargs)
        return result

    kernels[launch] = function
    return launch


def _executable(
    function: Callable[..., Any], kind: object, args: tuple[Any, ...]
) -> Callable[..., Any]:
    from service.registration.kernels import machine_code

    with _one_at_a_time:
        made = machine_code.executable(function, kind, args)
    _here.count = None  # compiling tells OpenMP a number of its own
    return made


@contextmanager
def _threads_for(*, is_alone: bool) -> Iterator[None]:
    """Has OpenMP use the right number for a kernel, which keeps one for each thread that launches.

    Kernels that waited for each other would leave a core idle for a fifth of the time: while the
    last of their own threads ends, and the first of the next wakes.
    """
    from service.registration.kernels import machine_code

    pool = machine_code.thread_pool()
    count = 1 if is_alone else _share(pool)
    if not pool.may_overlap:
        with _one_at_a_time:
            pool.set_threads(count)
            yield
        return
    if getattr(_here, "count", None) != count:
        pool.set_threads(count)
        _here.count = count
    yield


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

    return _share(machine_code.thread_pool())


def switch_often() -> None:
    """Have threads of this process wait less for each other's Python, from now on.

    They come out of hundreds of kernels in a registration, and by default each time wait up to 5 ms
    for what is drawn or told beside: 3 % of the clock.
    """
    sys.setswitchinterval(min(SWITCH_INTERVAL_S, sys.getswitchinterval()))


def threads_beside(count: int) -> ThreadPoolExecutor:
    """Threads for what goes on beside other work: their kernels use half of the cores, or one."""
    return ThreadPoolExecutor(count, initializer=_stay_beside)


def _stay_beside() -> None:
    _here.is_beside = True


def _share(pool: "ThreadPool") -> int:
    """Of the threads that there are, as many as are granted and this thread's kernels use."""
    granted = pool.most if _grant.most is None else max(1, min(_grant.most, pool.most))
    return max(1, granted // 2) if getattr(_here, "is_beside", False) else granted


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
