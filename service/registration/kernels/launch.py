"""How kernels are compiled and started.

A kernel module imports no compiled function of another one: numba's cache looks at the kernel's own
file only, and would keep running yesterday's version of a function that lives elsewhere. Sums and
the like are written as loops: numpy's bring in numba's implementations of them, and scipy.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

# OpenMP's threads spin between two launches, for milliseconds, on cores that the Python between
# them, or another process, could use: beside others a registration then takes twice as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")

# Reordering sums is not allowed, nor is assuming that no NaN comes: a NaN index must reach the
# border test. Fusing a product and a sum, ignoring the sign of zero and reciprocals are harmless.
SAFE_FASTMATH = {"contract", "nsz", "arcp"}

# Lets the compiler put the components of a vector into one SIMD register; numba leaves it off.
numba.config.SLP_VECTORIZE = 1  # type: ignore[attr-defined]

# What numba compiles, by the function that launches it.
_compiled: dict[Callable[..., Any], Any] = {}

# One parallel launch at a time. Numba's `workqueue` layer (where libgomp is missing) ends the
# process when two threads launch at once; OpenMP would take it, but only oversubscribe the cores.
_launching = threading.Lock()


def device(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A function that kernels of the same module call; compiled into them."""
    compiled: Callable[Inputs, Result] = numba.njit(
        nogil=True, error_model="numpy", fastmath=SAFE_FASTMATH
    )(function)
    return compiled


class _DiskCache(FunctionCache):
    """Machine code on disk, loaded without what only a compiler needs.

    Numba gets ready to compile before it looks on the disk: a quarter of a second of imports, more
    where scipy is installed. Compiling does that itself when it comes to it.
    """

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # what kernels allocate memory with
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def signatures(self, target_context):
        """The types of arguments that it was compiled for, as it stands, on this machine."""
        index = self._cache_file._load_index()
        keys = {sig: self._index_key(sig, target_context.codegen()) for sig, *_ in index}
        return [sig for sig, key in keys.items() if key in index]


def kernel(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A threaded kernel: compiled once for each machine, safe to call from any thread.

    It uses `numba.get_num_threads()` threads of the calling thread's setting, and lets other Python
    threads run meanwhile. OpenMP does not survive a fork: launch kernels after it, not before.
    """
    compiled: Any = numba.njit(
        parallel=True, nogil=True, error_model="numpy", fastmath=SAFE_FASTMATH
    )(function)  # fmt: skip
    # Without a cache where neither the package nor the user's cache folder can be written.
    with suppress(RuntimeError):
        compiled._cache = _DiskCache(function)

    @wraps(function)
    def launch(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        with _launching:
            result: Result = compiled(*args, **kwargs)
            return result

    _compiled[launch] = compiled
    return launch


def load_compiled(launch: Callable[..., Any]) -> None:
    """Load a kernel as it was compiled on this machine before; nothing where it was not."""
    compiled = _compiled[launch]
    if isinstance(compiled._cache, _DiskCache):
        for signature in compiled._cache.signatures(compiled.targetctx):
            compiled.compile(signature)
