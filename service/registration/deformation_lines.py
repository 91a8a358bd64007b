"""The deformed grid as SVG lines."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from service.registration.grid import Grid
from service.registration.views import View

LINES_ALONG_LONGER_SIDE = 28
POINTS_PER_LINE = 90


def grid_lines(view: View, grid: Grid, deformation_mm: Float[np.ndarray, "h w 3"]) -> str:
    """Every n-th line of a slice's grid, moved in its plane by the deformation.

    A line point at x is drawn at x + u(x) without the part of u across the slice.

    Args:
        deformation_mm: RAS+ mm at each voxel of the cut slice.
    """
    per_mm = np.linalg.inv(grid.affine[:3, :3])
    moved = deformation_mm @ per_mm.T
    rows, columns = np.indices(view.shape, dtype=np.float64)
    if view.flips[0]:
        rows = view.shape[0] - 1 - rows
    if view.flips[1]:
        columns = view.shape[1] - 1 - columns
    x, y = view.pixels(rows + moved[..., view.row_axis], columns + moved[..., view.column_axis])
    apart_px = max(view.size_px) / LINES_ALONG_LONGER_SIDE
    lines = []
    for along in (0, 1):
        pixels_per_voxel = view.size_px[1 - along] / view.shape[along]
        every = max(1, round(apart_px / pixels_per_voxel))
        thin = max(1, view.shape[1 - along] // POINTS_PER_LINE)
        for xs, ys in zip(
            _lines(x, along, every, thin), _lines(y, along, every, thin), strict=True
        ):
            lines.append(_path(xs, ys))
    return f'<path class="lines" d="{"".join(lines)}"/>'


def _lines(values: np.ndarray, along: int, every: int, thin: int) -> np.ndarray:
    """Lines of constant row (along 0) or column (along 1), thinned along their length."""
    turned = values if along == 0 else values.T
    return turned[every // 2 :: every, ::thin]


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    """SVG path data in tenths of a pixel, relative steps: short."""
    tenths = np.rint(np.stack([xs, ys], axis=1) * 10).astype(np.int64)
    steps = np.diff(tenths, axis=0)
    start = f"M{tenths[0, 0] / 10:g} {tenths[0, 1] / 10:g}l"
    return start + " ".join(map(_as_pixels, steps.ravel().tolist()))


@lru_cache(maxsize=1 << 14)
def _as_pixels(tenths: int) -> str:
    """So many tenths of a pixel; steps are short, so the same few texts come back."""
    return f"{tenths / 10:g}"
