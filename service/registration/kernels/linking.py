"""Link numba's machine code without numba: by LLVM, to numba's C functions and Python's own.

The modules of C functions are those of the numba that compiled the code, loaded one by one, since
the package around them is what takes long to import.
"""

import builtins
import ctypes
import os
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from typing import Any

from llvmlite import binding

from service.cores import usable_cores
from service.registration.kernels.machine_code import MachineCode, numba_folder

HELPERS = "helpers"
# Functions of numba's thread pool that compiled code calls, some by another name.
POOL = {
    "numba_parallel_for": "parallel_for",
    **{
        name: name
        for name in (
            "allocate_sched",
            "deallocate_sched",
            "do_scheduling_signed",
            "do_scheduling_unsigned",
            "get_num_threads",
            "get_parallel_chunksize",
            "get_sched_size",
            "get_thread_id",
            "set_num_threads",
            "set_parallel_chunksize",
        )
    },
}
# As CPython calls a function: of the module, positional arguments, keywords.
_Entry = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)


def _numbas(module: str) -> Any:
    """One of numba's C modules."""
    place = numba_folder() / module
    for suffix in EXTENSION_SUFFIXES:
        path = place.with_name(place.name + suffix)
        if path.is_file():
            loader = ExtensionFileLoader(place.name, str(path))
            loaded = module_from_spec(ModuleSpec(place.name, loader, origin=str(path)))
            loader.exec_module(loaded)
            return loaded
    raise ImportError(f"There is no {module} in numba.")


def _names_of_python() -> Iterator[tuple[str, int]]:
    yield "_Py_NoneStruct", id(None)
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            yield f"PyExc_{name}", id(value)


class Linker:
    """Links compiled kernels into this process; they stay as long as it runs."""

    may_overlap = True

    def __init__(self) -> None:
        """Start LLVM's linker and the threads.

        Raises:
            ImportError: If numba is missing, or built without OpenMP.
            RuntimeError: If LLVM refuses.
        """
        pool, runtime = _numbas("np/ufunc/omppool"), _numbas("core/runtime/_nrt_python")
        self._environment = _numbas("_dynfunc").Environment
        self._kept: list[object] = []
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        target = binding.Target.from_default_triple().create_target_machine()
        self._linker = binding.create_lljit_compiler(target)
        library = binding.JITLibraryBuilder()
        for name, address in _names_of_python():
            library.import_symbol(name, address)
        for name, address in _numbas("_helperlib").c_helpers.items():
            library.import_symbol(f"numba_{name}", address)
        for name, address in runtime.c_helpers.items():
            library.import_symbol(name if name.startswith("_") else f"NRT_{name}", address)
        for name, theirs in POOL.items():
            library.import_symbol(name, getattr(pool, theirs))
        self._kept.append(library.link(self._linker, HELPERS))
        self._start_threads(pool)

    def _start_threads(self, pool: Any) -> None:
        self.threads: Callable[[], int] = ctypes.CFUNCTYPE(ctypes.c_int)(pool.get_num_threads)
        takes_count = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self.set_threads: Callable[[int], None] = takes_count(pool.set_num_threads)
        self.most = most_threads()
        takes_count(pool.launch_threads)(self.most)

    def linked(self, name: str, code: MachineCode, module: dict[str, Any]) -> Callable[..., Any]:
        """A kernel to call, from its machine code and the names in its module.

        Raises:
            RuntimeError: If LLVM cannot link it: it needs what is not there.
        """
        library = binding.JITLibraryBuilder().add_object_img(code.code)
        library.add_jit_library(HELPERS).add_current_process()
        library.export_symbol(code.entry).export_symbol(code.environment)
        tracker = library.link(self._linker, name)
        environment = self._environment(module)
        ctypes.c_void_p.from_address(tracker[code.environment]).value = id(environment)
        self._kept += [tracker, environment]
        entry = _Entry(tracker[code.entry])

        def run(*args: Any) -> Any:
            return entry(None, args, None)

        return run


def most_threads() -> int:
    """As numba counts: what its variable says, or else a thread for each core we may use.

    None at all, which numba refuses, is taken as not said.
    """
    told = os.environ.get("NUMBA_NUM_THREADS", "")
    return (int(told) if told.isdecimal() else 0) or usable_cores()
