"""Grey values through a table."""

import numpy as np

from service.registration.kernels.launch import kernel, prange


@kernel
def look_up(values, low, scale, table, out):
    """out = table at (values - low) * scale, linear between its entries, its ends beyond them.

    `values` and `out` (i, j * k), `table` (n), n > 1, all float32.
    """
    last = np.float32(table.size - 1)
    for i in prange(values.shape[0]):
        for t in range(values.shape[1]):
            place = min(max((values[i, t] - low) * scale, np.float32(0.0)), last)
            entry = min(np.int32(place), np.int32(table.size - 2))
            share = place - np.float32(entry)
            here, there = table[np.uint32(entry)], table[np.uint32(entry + 1)]
            out[i, t] = here + share * (there - here)
