"""Kernels to machine code, by numba: heavy to import, and only needed once for each machine."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FunctionType
from typing import Any

from service.registration.kernels import launch
from service.registration.kernels.machine_code import MachineCode

# What numba would import for its own sake alone, if it is there.
_UNWANTED = ("coverage", "yaml")


@contextmanager
def _hidden() -> Iterator[None]:
    hidden = [name for name in _UNWANTED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden():
    import numba

# Lets the compiler put the components of a vector into one SIMD register; numba leaves it off.
numba.config.SLP_VECTORIZE = 1  # type: ignore[attr-defined]

# Reordering sums is not allowed, but where a function says so, nor is assuming that no NaN comes: a
# NaN index must reach the border test. Fusing a product and a sum, ignoring the sign of zero and
# reciprocals are harmless.
SAFE_FASTMATH = {"contract", "nsz", "arcp"}
REDUCTION_FASTMATH = SAFE_FASTMATH | {"reassoc"}


@cache
def dispatcher(function: Callable[..., Any]) -> Any:
    """The kernel as numba compiles and runs it, kept on disk in numba's way."""
    kernel = _jitted(function)
    # Without a cache where neither the package nor the user's cache folder can be written.
    with suppress(RuntimeError):
        kernel.enable_caching()
    return kernel


@cache
def _jitted(function: Callable[..., Any]) -> Any:
    shares = "prange" in function.__code__.co_names  # one that calls others has no loop to share
    _prepare(function.__globals__)
    return numba.njit(
        parallel=shares, nogil=True, error_model="numpy", fastmath=SAFE_FASTMATH
    )(function)  # fmt: skip


def _prepare(names: dict[str, Any]) -> None:
    """Have a module's functions find numba's form of what they call, there and further on."""
    for name, value in list(names.items()):
        if value is launch.prange:
            names[name] = numba.prange
        elif isinstance(value, FunctionType) and value in launch.devices:
            names[name] = _device(value)
            _prepare(value.__globals__)
        elif isinstance(value, FunctionType) and value in launch.kernels:
            names[name] = _called(value, names)


def _called(kernel: Callable[..., Any], names: dict[str, Any]) -> Any:
    """What calls a kernel by this name: another one, or Python, where it is the module's own."""
    function = launch.kernels[kernel]
    return kernel if function.__globals__ is names else _jitted(function)


@cache
def _device(function: Callable[..., Any]) -> Any:
    fastmath = REDUCTION_FASTMATH if function in launch.reductions else SAFE_FASTMATH
    return numba.njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> MachineCode:
    """Machine code of a kernel for such arguments.

    Raises:
        RuntimeError: If it leans on objects of this process.
    """
    kernel, types = _jitted(function), tuple(map(numba.typeof, arguments))
    kernel.compile(types)
    made = kernel.overloads[types]
    if made.environment.consts:
        raise RuntimeError("The kernel refers to Python objects, which are not kept.")
    _, _, (code, _) = made.library.serialize_using_object_code()
    return MachineCode(
        entry=made.fndesc.llvm_cpython_wrapper_name,
        environment=made.fndesc.env_name,
        code=code,
    )
