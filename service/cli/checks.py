"""The checks of `warpline doctor`: each tries the thing itself instead of asking for its name."""

import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from service.cli.kernels import kernels
from service.cores import usable_cores
from service.errors import ConfigurationError, WarplineError
from service.settings import Settings

Status = Literal["ok", "warn", "fail"]
GIB = 2**30
LEAST_MEMORY_GIB = 4
# The rare corruption when a WAL is reset was fixed here (sqlite.org/releaselog/3_51_3.html).
SQLITE_FIXED = (3, 51, 3)
FACES = {
    "command line against a server": ("httpx",),
    "gateway": ("fastapi", "uvicorn", "sqlalchemy", "obstore"),
    "worker": ("onnxruntime", "sqlalchemy", "PIL"),
    "demo": ("nilearn",),
}


@dataclass(frozen=True)
class Check:
    """What was looked at, and how it is."""

    name: str
    status: Status
    detail: str


def check_machine() -> list[Check]:
    """Everything that this machine needs to register, then what the other faces need."""
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("Python", _python),
        ("processor", _processor),
        ("memory", _memory),
        ("ONNX Runtime", _runtime),
        ("GPU", _gpu),
        ("numba", _numba),
        ("kernels", _kernels),
        ("models", _models),
        ("data folder", _data_folder),
        ("SQLite", _sqlite),
    ]
    return [_tried(name, look) for name, look in looks] + [_face(name) for name in FACES]


def _tried(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except WarplineError as error:
        return Check(name, "fail", error.detail)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Check(name, "fail", f"{type(error).__name__}: {error}")


def _python() -> Check:
    version = platform.python_version()
    here = f"{version}, warpline {metadata.version('warpline')}, {platform.machine()}"
    return Check("Python", "ok" if sys.version_info >= (3, 11) else "fail", here)


def _processor() -> Check:
    return Check("processor", "ok", f"{usable_cores()} cores for this process")


def _memory() -> Check:
    gib = _memory_bytes() / GIB
    status: Status = "ok" if gib >= LEAST_MEMORY_GIB else "warn"
    return Check("memory", status, f"{gib:.1f} GiB; large pairs (256^3) need about 4 GiB")


def _memory_bytes() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        return min(physical, int(text))
    return physical


def _runtime() -> Check:
    """Ask the provider that the settings choose to run the default model's graph."""
    import onnxruntime

    from service.registration.models_folder import ModelFolder

    settings = Settings()
    there = [
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    ]
    engine = ModelFolder(settings.models_dir).load("discrete", settings.provider)
    detail = f"{onnxruntime.__version__}, has {', '.join(there)}; models run on {engine.provider}"
    return Check("ONNX Runtime", "ok", detail)


def _gpu() -> Check:
    """Register a small pair where the settings say and on the CPU, if that is not the same."""
    from service.registration.models_folder import GRAPH, ModelFolder, open_engine

    settings = Settings()
    folder = ModelFolder(settings.models_dir)
    card, graph = folder.card("discrete"), folder.folder("discrete") / GRAPH
    engine = open_engine(card, graph, settings.provider, None, cuda_graphs=settings.cuda_graphs)
    if engine.provider != "cuda":
        return Check("GPU", "ok", f"none is used: models run on {engine.provider}")
    from service.registration.device_check import apart

    found = apart(engine, open_engine(card, graph, "cpu", None))
    detail = (
        f"its fields are {found.network:.1e} (network) and {found.refinement:.1e} (refinement) "
        "voxels from the CPU's"
    )
    if found.are_alike:
        return Check("GPU", "ok", detail)
    return Check("GPU", "fail", f"{detail}; set WARPLINE_PROVIDER=cpu")


def _numba() -> Check:
    """Compile and run a threaded kernel of three lines."""
    import numba
    import numpy as np

    @numba.njit(parallel=True)
    def doubled(values: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        for i in numba.prange(values.size):
            out[i] = 2 * values[i]
        return out

    if doubled(np.arange(8.0)).sum() != 56:
        return Check("numba", "fail", "a compiled kernel gave a wrong result")
    runtime: Any = numba  # its own annotations are in part only
    layer, threads = runtime.threading_layer(), runtime.get_num_threads()
    return Check("numba", "ok", f"{numba.__version__}, {threads} threads, layer {layer}")


def _kernels() -> Check:
    found = kernels()
    detail = f"{found.compiled} of {found.modules} modules compiled and kept on disk"
    if found.are_there:
        return Check("kernels", "ok", detail)
    return Check("kernels", "warn", f"{detail}; the first registration compiles what it needs")


def _models() -> Check:
    from service.registration.models_folder import ModelFolder

    folder = ModelFolder(Settings().models_dir)
    found = folder.list()
    if not found:
        return Check("models", "fail", "none found; WARPLINE_MODELS_DIR names their folder")
    for model in found:
        folder.load(f"{model.name}/{model.version}")
    names = ", ".join(f"{model.name}/{model.version}" for model in found)
    return Check("models", "ok", f"{names}: loaded and checked against their cards")


def _data_folder() -> Check:
    settings = Settings()
    folder = settings.data_dir.resolve()
    standing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    with tempfile.TemporaryFile(dir=standing):
        pass
    free_mib = shutil.disk_usage(standing).free // 2**20
    status: Status = "ok" if free_mib > settings.min_free_mib else "fail"
    hint = "" if status == "ok" else f"; files are refused below {settings.min_free_mib} MiB"
    return Check("data folder", status, f"{folder}, writable, {free_mib / 1024:.1f} GiB free{hint}")


def _sqlite() -> Check:
    """The SQLite that the embedded stack would use: pysqlite3's where it is installed."""
    version = sqlite3.sqlite_version
    if find_spec("pysqlite3") is not None:
        from pysqlite3 import dbapi2

        version = str(dbapi2.sqlite_version)
    if tuple(int(part) for part in version.split(".")) >= SQLITE_FIXED:
        return Check("SQLite", "ok", version)
    return Check(
        "SQLite",
        "warn",
        f"{version} can, rarely, corrupt a database in WAL mode; pip install pysqlite3, "
        "or use PostgreSQL",
    )


def _face(name: str) -> Check:
    missing = [module for module in FACES[name] if find_spec(module) is None]
    if not missing:
        return Check(name, "ok", "installed")
    return Check(name, "warn", f"not installed: {', '.join(missing)}; see the extras in the README")


def check_server(url: str, api_key: str | None) -> Check:
    """Ask a server for its limits, which needs the key."""
    from service.cli.shared_options import connect

    try:
        with connect(url, api_key) as client:
            limits = client.limits()
    except ConfigurationError as error:
        return Check("server", "fail", error.detail)
    except WarplineError as error:
        return Check("server", "fail", f"{error.slug}: {error.detail}")
    return Check("server", "ok", f"answers; files up to {limits.max_upload_bytes / GIB:g} GiB")
