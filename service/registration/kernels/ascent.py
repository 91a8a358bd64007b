"""A step uphill on local correlation, in two launches: what it takes is in `descent`, `evenness`.

Here kernels follow each other without Python between them, where a core would wait: on a coarse
level for as long as it works.
"""

import numpy as np

from service.registration.kernels.descent import (
    compose_planes,
    correlation,
    force,
    smooth_field,
    smooth_force,
    warp_and_sum,
)
from service.registration.kernels.evenness import even_out, growth
from service.registration.kernels.launch import kernel


@kernel
def compare(pair, place, images, stats, buffers, totals):
    """totals[i] = the sum of cc over plane i of a pair under a field.

    What `ascend` needs of it stays in `images` and `buffers`. `pair`: (the moving image, the
    field); `place`: see `warp_and_sum`; `images`: (F, F times the mask, mask, W), of which W is
    found; `stats`: of `fixed_statistics`; `buffers`: two of the field's size.
    """
    moving, field = pair
    _, masked_fixed, mask, warped = images
    nk, _, outer = place
    first, second = buffers
    warp_and_sum(moving, field, place, (masked_fixed, mask), warped, first)
    correlation(first, stats, nk, outer, second, totals)


@kernel
def ascend(field, nk, images, buffers, uphill, keep):
    """Move a field uphill by at most so many mm, smooth it, and even it out.

    `images`, `buffers`: as `compare` left them; scratch afterwards. `uphill`: (weights of the
    window along i, taps of the force, scale per axis, spacing, largest displacement in mm), see
    `force` and `smooth_force`; `keep`: (taps of the field, scale of `even_out`). Where there is no
    force, the field stays as it is.
    """
    fixed, _, mask, warped = images
    window, force_taps, scale, spacing, step_mm = uphill
    field_taps, even_shares = keep
    first, second = buffers
    largest = np.empty(fixed.shape[0], np.float32)
    force((fixed, mask, warped), second, nk, (window, force_taps, scale), first)
    smooth_force(first, force_taps, spacing, second, largest)
    top = np.float32(0.0)
    for i in range(largest.size):
        top = max(top, largest[i])
    if top > 0:
        share = np.float32(step_mm / np.sqrt(top))
        compose_planes(field, second, share, nk, field_taps, first)
        smooth_field(first, field_taps, field)
        growth(field, nk, warped)
        even_out(warped, even_shares, nk, field)
