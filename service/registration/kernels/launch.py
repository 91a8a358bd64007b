"""How kernels are compiled and started.

A kernel module imports no compiled function of another one: numba's cache looks at the kernel's own
file only, and would keep running yesterday's version of a function that lives elsewhere.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numba

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")

# Reordering sums is not allowed, nor is assuming that no NaN comes: a NaN index must reach the
# border test. Fusing a product and a sum, ignoring the sign of zero and reciprocals are harmless.
SAFE_FASTMATH = {"contract", "nsz", "arcp"}

# Lets the compiler put the components of a vector into one SIMD register; numba leaves it off.
numba.config.SLP_VECTORIZE = 1  # type: ignore[attr-defined]

# One parallel launch at a time. Numba's `workqueue` layer (where libgomp is missing) ends the
# process when two threads launch at once; OpenMP would take it, but only oversubscribe the cores.
_launching = threading.Lock()


def device(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A function that kernels of the same module call; compiled into them."""
    compiled: Callable[Inputs, Result] = numba.njit(
        nogil=True, error_model="numpy", fastmath=SAFE_FASTMATH
    )(function)
    return compiled


def kernel(function: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """A threaded kernel: compiled once for each machine, safe to call from any thread.

    It uses `numba.get_num_threads()` threads of the calling thread's setting, and lets other Python
    threads run meanwhile. OpenMP does not survive a fork: launch kernels after it, not before.
    """
    options: dict[str, Any] = {
        "parallel": True,
        "nogil": True,
        "error_model": "numpy",
        "fastmath": SAFE_FASTMATH,
    }
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        compiled = numba.njit(**options)(function)

    @wraps(function)
    def launch(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        with _launching:
            result: Result = compiled(*args, **kwargs)
            return result

    return launch
