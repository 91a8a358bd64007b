"""Kernels are loaded from disk, without a compiler's imports, ahead of their use."""

import json
import os
import subprocess
import sys
from pathlib import Path

from service.registration.kernels import ahead
from service.registration.kernels.launch import _compiled

USE = """
import json, sys
import numpy as np
from service.registration.kernels import measures
from service.registration.kernels.launch import _compiled, load_compiled
kernel = measures.correlation_sums
load_compiled(kernel)
a, sums = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros((2, 6))
def call(dtype):
    sums[:] = 0
    kernel(a.astype(dtype), a.astype(dtype) + 1, np.ones(a.shape, bool), sums)
    return sums.sum(axis=0).tolist()
first = call(np.float32)
stats = _compiled[kernel].stats
loaded = sum(stats.cache_hits.values()), sum(stats.cache_misses.values())
compiler = "numba.np.arraymath" in sys.modules
other = call(np.float64) if "compile" in sys.argv else first
print(json.dumps([first, loaded, compiler, other]))
"""
LOAD = """
import sys
from service.registration.kernels import ahead
for kernel in ahead.IN_ORDER:
    ahead.load_compiled(kernel)
print([name for name in ("numba.np.arraymath", "scipy.linalg") if name in sys.modules])
"""


def run(program: str, *args: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env=os.environ | environment,
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_a_second_process_loads_what_the_first_compiled_and_can_still_compile(
    tmp_path: Path,
) -> None:
    values = [24.0, 276.0, 300.0, 4324.0, 4900.0, 4600.0]
    fresh = json.loads(run(USE, NUMBA_CACHE_DIR=str(tmp_path)))
    assert fresh == [values, [0, 1], True, values]
    again = json.loads(run(USE, "compile", NUMBA_CACHE_DIR=str(tmp_path)))
    assert again == [values, [1, 0], False, values]


def test_no_kernel_brings_in_the_compilers_numpy_or_scipy() -> None:
    """Those that are compiled on this machine; a registration in these tests compiles them all."""
    assert run(LOAD).strip() == "[]"


def test_loading_ahead_ends_with_the_block() -> None:
    assert set(ahead.IN_ORDER) <= set(_compiled)
    with ahead.loading():
        pass
    ahead.load_compiled(ahead.IN_ORDER[0])  # a second time is free
