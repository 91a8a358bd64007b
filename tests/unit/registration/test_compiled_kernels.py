"""Kernels are linked from disk, without numba; what is not there, or damaged, is compiled."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest

from service.cores import usable_cores
from service.registration.kernels import ascent, cubic, launch, machine_code, measures
from service.registration.kernels.launch import kind_of
from service.registration.kernels.linking import most_threads

KERNELS = Path(launch.__file__).parent
USE = """
import json, sys
import numpy as np
from service.registration.kernels import measures
a, sums = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros((2, 6))
def call(dtype):
    sums[:] = 0
    measures.correlation_sums(a.astype(dtype), a.astype(dtype) + 1, np.ones(a.shape, bool), sums)
    return sums.sum(axis=0).tolist(), "numba" in sys.modules
print(json.dumps([call(name) for name in sys.argv[1:]]))
"""
VALUES = [24.0, 276.0, 300.0, 4324.0, 4900.0, 4600.0]


def run(*args: str, **environment: str) -> list[list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", USE, *args],
        env=os.environ | environment,
        capture_output=True,
        check=True,
        text=True,
    )
    found: list[list[object]] = json.loads(done.stdout)
    return found


def test_a_second_process_links_what_the_first_compiled_and_can_still_compile(
    tmp_path: Path,
) -> None:
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert run("float32", **folder) == [[VALUES, True]]
    assert run("float32", "float64", **folder) == [[VALUES, False], [VALUES, True]]
    assert len(list(tmp_path.glob("*.kernel"))) == 2
    for file in tmp_path.glob("*.kernel"):
        file.write_bytes(file.read_bytes()[:-7])  # as if the disk had been full
    assert run("float32", **folder) == [[VALUES, True]]
    assert run("float32", **folder) == [[VALUES, False]]


def test_machine_code_goes_with_every_module_that_its_kernel_has_functions_from() -> None:
    """Cubic has some of pull and sampling, pull of sampling; a change of any is another file.

    So is one of a kernel that another module's calls.
    """
    texts = list(machine_code._sources(cubic.pull_cubic.__wrapped__))  # type: ignore[attr-defined]
    names = ("cubic", "pull", "sampling")
    assert texts == [(KERNELS / f"{name}.py").read_bytes() for name in names]
    texts = list(machine_code._sources(ascent.ascend.__wrapped__))  # type: ignore[attr-defined]
    names = ("ascent", "descent", "evenness", "planes", "sampling")
    assert texts == [(KERNELS / f"{name}.py").read_bytes() for name in names]


def test_numba_does_all_where_its_variables_say_how(tmp_path: Path) -> None:
    folder = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "1"}
    assert run("float32", **folder) == [[VALUES, True]]
    assert not list(tmp_path.glob("*.kernel"))


def test_the_name_on_disk_depends_on_the_source_the_kind_and_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = measures.correlation_sums.__wrapped__  # type: ignore[attr-defined]
    name = machine_code._file_name(function, "kind")
    assert machine_code._file_name(function, "kind") == name
    names = {name, machine_code._file_name(function, "another")}
    monkeypatch.setattr(machine_code, "_compiler", lambda: b"another")
    names.add(machine_code._file_name(function, "kind"))
    monkeypatch.undo()
    monkeypatch.setattr(machine_code, "_source", lambda _path: b"another")
    names.add(machine_code._file_name(function, "kind"))
    assert len(names) == 4


def test_arrays_are_of_one_kind_only_if_the_compiler_cannot_tell_them_apart() -> None:
    array = np.zeros((2, 3, 4), np.float32)
    assert kind_of(array) == kind_of(array[:1] + 1) == kind_of(array[:, :, :])
    frozen = array.copy()
    frozen.setflags(write=False)
    others = [
        array.astype(np.float64),
        array.astype(">f4"),
        np.asfortranarray(array),
        array[:, ::2],
        array[0],
        frozen,
        (array,),
        1,
        1.0,
        np.float32(1.0),
        (1, (1.0,)),
    ]
    assert len({kind_of(value) for value in [array, *others]}) == len(others) + 1


def test_no_kernel_module_imports_numba() -> None:
    """But for the one that compiles: each import of numba costs a quarter of a second."""
    lines = {
        path.name: path.read_text("utf-8").splitlines()
        for path in KERNELS.glob("*.py")
        if path.name not in ("compiling.py", "machine_code.py")
    }
    wrong = [
        name
        for name, text in lines.items()
        if any(line.strip().startswith(("import numba", "from numba")) for line in text)
    ]
    assert not wrong


@pytest.fixture
def granted_threads() -> Iterator[Callable[[int | None], None]]:
    yield launch.set_threads
    launch.set_threads(None)


def test_threads_are_those_that_were_granted(
    granted_threads: Callable[[int | None], None],
) -> None:
    granted_threads(None)
    before = launch.threads()
    granted_threads(1)
    assert launch.threads() == 1
    granted_threads(10_000)
    assert launch.threads() == before
    granted_threads(0)
    assert launch.threads() == 1


def test_kernels_of_threads_begun_beside_use_no_more_than_was_granted(
    granted_threads: Callable[[int | None], None],
) -> None:
    pool = machine_code.thread_pool()

    def threads_of_a_kernel() -> int:
        launched_on(launch.SMALL_ARRAY)
        return pool.threads()

    def beside() -> int:
        with ThreadPoolExecutor(1) as other:
            return other.submit(threads_of_a_kernel).result()

    granted_threads(1)
    with ThreadPoolExecutor(1) as staying:
        assert staying.submit(threads_of_a_kernel).result() == beside() == 1
        granted_threads(None)
        assert staying.submit(threads_of_a_kernel).result() == beside() == pool.most


def launched_on(values: int) -> None:
    image = np.zeros((2, 1, values // 2), np.float32)
    measures.correlation_sums(image, image, np.ones(image.shape, bool), np.zeros((2, 6)))


def test_a_kernel_on_small_arrays_uses_one_thread() -> None:
    launched_on(launch.SMALL_ARRAY)
    launched_on(24)
    assert machine_code.thread_pool().threads() == 1


def test_kernels_beside_others_use_half_of_the_threads(
    granted_threads: Callable[[int | None], None],
) -> None:
    pool = machine_code.thread_pool()

    def used() -> tuple[int, int]:
        launched_on(launch.SMALL_ARRAY)
        return launch.threads(), pool.threads()

    for granted in (1, 2, None):
        granted_threads(granted)
        all_of_them = launch.threads()
        with launch.threads_beside(1) as beside:
            assert beside.submit(used).result() == (max(1, all_of_them // 2),) * 2
        assert used() == (all_of_them,) * 2


def test_switching_often_is_never_less_often_than_before() -> None:
    before = sys.getswitchinterval()
    try:
        for told in (0.005, launch.SWITCH_INTERVAL_S / 2):
            sys.setswitchinterval(told)
            launch.switch_often()
            expected = min(told, launch.SWITCH_INTERVAL_S)
            assert sys.getswitchinterval() == pytest.approx(expected, abs=2e-6)
    finally:
        sys.setswitchinterval(before)


def test_no_kernel_waits_for_another() -> None:
    """But where numba's own pool may not be OpenMP's."""
    launched_on(launch.SMALL_ARRAY)  # made, if it was not
    may_overlap = machine_code.thread_pool().may_overlap
    with ThreadPoolExecutor(1) as other, launch._one_at_a_time:
        launched = other.submit(launched_on, launch.SMALL_ARRAY)
        if may_overlap:
            launched.result(60)
        else:
            assert not wait([launched], 0.1).done


@pytest.mark.parametrize("told", ["0", "", "many", "-1"])
def test_no_number_of_threads_is_taken_as_all_cores(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", told)
    assert most_threads() == usable_cores()
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert most_threads() == 3
