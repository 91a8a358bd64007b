"""Machine code of kernels: linked from what an earlier run left on disk, or else compiled.

A file holds the machine code of one kernel for one kind of arguments. Its name says what it depends
on: the kernel's source, how it is compiled, the compiler's version, and the processor. Numba keeps
compiled kernels as well, but needs a quarter of a second of imports to find them, and another one
to load them.

Where linking without numba has not been tried (it was on Linux, x86-64), or fails, numba does all.
"""

import hashlib
import json
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from service.registration.kernels.launch import devices, kernels

if TYPE_CHECKING:
    from service.registration.kernels.linking import Linker

TRIED = ("linux", "x86_64")
# What changes how numba compiles or runs; see its reference of environment variables.
FOLDER_VARIABLE = "NUMBA_CACHE_DIR"
HARMLESS_VARIABLES = {FOLDER_VARIABLE, "NUMBA_NUM_THREADS"}


_linking = threading.Lock()  # two threads may ask for the linker before there is one


@dataclass(frozen=True)
class MachineCode:
    """A kernel for one kind of arguments, as an object file.

    `entry` is what Python calls; at `environment` the address is expected of what a function knows
    of its module.
    """

    entry: str
    environment: str
    code: bytes


class ThreadPool(Protocol):
    """How many threads kernels use, by the thread that launches them."""

    @property
    def most(self) -> int:
        """How many there are."""

    @property
    def may_overlap(self) -> bool:
        """Whether one thread may launch a kernel, to run there, while another's runs."""

    def threads(self) -> int:
        """How many a kernel uses that is launched from this thread."""

    def set_threads(self, count: int) -> None:
        """Use so many."""


def executable(
    function: Callable[..., Any], kind: object, arguments: tuple[Any, ...]
) -> Callable[..., Any]:
    """What runs a kernel for arguments of this kind, of which some are given."""
    if (linker := _linker()) is not None:
        with suppress(OSError, RuntimeError):  # no source; what LLVM cannot link
            name = _file_name(function, kind)
            code = _kept(function, name) or _made(function, name, arguments)
            return linker.linked(name, code, function.__globals__)
    from service.registration.kernels.compiling import dispatcher

    compiled: Callable[..., Any] = dispatcher(function)
    return compiled


def thread_pool() -> ThreadPool:
    """The threads of kernels."""
    linker = _linker()
    return _NumbasThreads() if linker is None else linker


class _NumbasThreads:
    """Numba's own pool."""

    may_overlap = False  # where it is not OpenMP's, two launches end the process

    @property
    def most(self) -> int:
        import numba

        return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

    def threads(self) -> int:
        import numba

        return int(numba.get_num_threads())

    def set_threads(self, count: int) -> None:
        import numba

        numba.set_num_threads(count)


def _linker() -> "Linker | None":
    """None where numba is to do all: elsewhere than tried, or told by its variables how to."""
    with _linking:
        return _made_linker()


@lru_cache(maxsize=1)
def _made_linker() -> "Linker | None":
    told = {name for name in os.environ if name.startswith("NUMBA_")} - HARMLESS_VARIABLES
    if (sys.platform, platform.machine()) != TRIED or told:
        return None
    from service.registration.kernels.linking import Linker

    with suppress(OSError, ImportError, AttributeError, KeyError, RuntimeError):
        return Linker()
    return None


def numba_folder() -> Path:
    """Where numba is installed, without importing it.

    Raises:
        ImportError: If it is not.
    """
    package = find_spec("numba")
    if package is None or package.origin is None:
        raise ImportError("There is no numba.")
    return Path(package.origin).parent


@lru_cache(maxsize=1)
def _compiler() -> bytes:
    """What says which compiler, how it is told to compile, and for which processor."""
    from llvmlite import __version__, binding

    version = (numba_folder() / "_version.py").read_bytes()
    how = Path(__file__).with_name("compiling.py").read_bytes()
    processor = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    return version + how + repr((__version__, sys.version, *processor)).encode()


@cache
def _source(path: str) -> bytes:
    return Path(path).read_bytes()


def _sources(function: Callable[..., Any]) -> Iterator[bytes]:
    """The text of the kernel's module, and of those from which it has functions, and so on."""
    paths: set[str] = set()
    waiting: list[Any] = [function]
    while waiting:
        each = waiting.pop()
        if each.__code__.co_filename in paths:
            continue
        paths.add(each.__code__.co_filename)
        known = (getattr(value, "py_func", value) for value in each.__globals__.values())
        known = (kernels.get(one, one) for one in known if isinstance(one, FunctionType))
        waiting += [one for one in known if one in devices or one in kernels.values()]
    for path in sorted(paths):
        yield _source(path)


def _file_name(function: Callable[..., Any], kind: object) -> str:
    """Where the machine code is: another name for other sources, compilers, processors, kinds."""
    digest = hashlib.sha256(_compiler())
    for source in _sources(function):
        digest.update(source)
    digest.update(repr((function.__qualname__, kind)).encode())
    return f"{function.__module__}.{function.__name__}-{digest.hexdigest()[:24]}.kernel"


def _folders(function: Callable[..., Any]) -> Iterator[Path]:
    """Where machine code may be kept, the best place first."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        yield Path(folder)
        return
    yield Path(function.__code__.co_filename).parent / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warpline"


def _kept(function: Callable[..., Any], name: str) -> MachineCode | None:
    """What is on disk; nothing where it is damaged."""
    for folder in _folders(function):
        with suppress(OSError, ValueError, TypeError, KeyError):
            head, _, code = (folder / name).read_bytes().partition(b"\n")
            told = json.loads(head)
            if hashlib.sha256(code).hexdigest() == told.pop("sha256"):
                return MachineCode(code=code, **told)
    return None


def _made(function: Callable[..., Any], name: str, arguments: tuple[Any, ...]) -> MachineCode:
    """Compile, and keep it for the next process."""
    from service.registration.kernels.compiling import compiled

    made = compiled(function, arguments)
    told = asdict(made) | {"sha256": hashlib.sha256(made.code).hexdigest()}
    del told["code"]
    content = json.dumps(told).encode() + b"\n" + made.code
    for folder in _folders(function):
        with suppress(OSError):
            _write(folder / name, content)
            break
    return made


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: others may read it, or write the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}-{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
