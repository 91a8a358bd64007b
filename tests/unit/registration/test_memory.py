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
