"""Load compiled kernels on a thread of their own, in the order in which a registration calls them.

Machine code is linked on one core, which the stages of a registration do not all keep busy; a
kernel that is not loaded yet when it is called is loaded then.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.registration.kernels import (
    affinefit,
    descent,
    evenness,
    filters,
    flow,
    inverse,
    jacobian,
    lattice,
    measures,
    pull,
    pyramid,
    squaring,
)
from service.registration.kernels.launch import load_compiled

IN_ORDER = (
    pyramid.reduce_rows,
    pyramid.reduce_last,
    affinefit.evaluate,
    filters.filter_axes,
    pull.pull_linear,
    lattice.reach_of,
    lattice.pull_clamped,
    lattice.pad_clamped,
    lattice.keep_inside,
    descent.fixed_statistics,
    descent.warp_and_sum,
    descent.correlation,
    descent.force,
    descent.smooth_force,
    descent.compose_planes,
    descent.smooth_field,
    evenness.growth,
    evenness.even_out,
    flow.place,
    squaring.to_voxels,
    inverse.solve,
    pull.pull_nearest,
    jacobian.jacobian,
    measures.correlation_sums,
    measures.joint_histogram,
)


@contextmanager
def loading() -> Iterator[None]:
    """Load meanwhile; leaving the block stops it."""
    stop = threading.Event()

    def load() -> None:
        for kernel in IN_ORDER:
            if stop.is_set():
                return
            load_compiled(kernel)

    thread = threading.Thread(target=load, name="kernels")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
