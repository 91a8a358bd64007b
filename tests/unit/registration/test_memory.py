"""What is freed is used again, which only a process of its own can show."""

import subprocess
import sys

PROGRAM = """
import resource
import numpy as np
from service.registration.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(3 << 20, 1, np.uint8)  # too small for huge pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
faults()
print(kept, faults())
"""


def test_freed_memory_is_not_cleared_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    if kept == "True":  # glibc
        assert int(faults) < 100


IN_TURN = """
import resource, threading
import numpy as np
from service.registration.memory import keep_freed_memory

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def fill(turn, done):
    turn.wait()
    np.full(20 << 20, 1, np.uint8)
    done.set()

kept = keep_freed_memory()
before = peak_mib()
turns = [(threading.Event(), threading.Event()) for _ in range(8)]
threads = [threading.Thread(target=fill, args=turn) for turn in turns]
for thread in threads:
    thread.start()
for turn, done in turns:
    turn.set()
    done.wait()
print(kept, peak_mib() - before)
"""


def test_what_one_thread_frees_another_uses() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN], capture_output=True, text=True, check=True
    )
    kept, grown_mib = done.stdout.split()
    if kept == "True":  # glibc
        assert int(grown_mib) < 60


ADVISED = """
from pathlib import Path
from service.registration.memory import keep_freed_memory

kept = keep_freed_memory() and Path("/sys/kernel/mm/transparent_hugepage").exists()
maps = Path("/proc/self/smaps")
heaps = maps.read_text().split("[heap]")[1:] if maps.exists() else []
print(kept, any(" hg" in heap.split("VmFlags:")[1].splitlines()[0] for heap in heaps))
"""


def test_kept_memory_is_asked_for_in_huge_pages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ADVISED], capture_output=True, text=True, check=True
    )
    kept, advised = done.stdout.split()
    if kept == "True":  # glibc, and a kernel that has them
        assert advised == "True"
