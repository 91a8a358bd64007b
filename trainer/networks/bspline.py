"""Fields from cubic B-spline control points, one small matrix for each axis."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.networks.axes import ramp

# Control points that are repeated beyond each end, so that the outermost voxels have all four.
MARGIN = 2


def cubic(distance: Tensor) -> Tensor:
    """The cubic B-spline: 2/3 - t**2 + t**3 / 2 up to 1, (2 - t)**3 / 6 up to 2, 0 beyond.

    Source: Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 1999.
    """
    t = distance.abs()
    near = 2 / 3 - t**2 * (1 - t / 2)
    far = (2 - t).clamp(min=0) ** 3 / 6
    return torch.where(t < 1, near, far)


def weights(count: int, spacing: int, stride: int, like: Tensor) -> Tensor:
    """How much each control point counts in each cell along one axis.

    Control point m lies in the middle of voxels spacing * m and on, cell c in the middle of voxels
    stride * c and on.

    Args:
        count: Control points, without margin.
        spacing: Voxels from one to the next.
        stride: Voxels of a cell.
        like: Of which type and where.

    Returns:
        (spacing * count / stride, count + 4): the first and last two are the margin's.
    """
    cells = (spacing * count) // stride
    middle = stride * ramp(cells, like) + (stride - spacing) / 2
    points = ramp(count + 2 * MARGIN, like) - MARGIN
    return cubic(middle[:, None] / spacing - points[None, :])


def expand(points: Tensor, spacing: int, stride: int) -> Tensor:
    """u(x) = sum over control points of B(x - p) * value(p), at each cell's middle.

    Beyond the outermost control points, which lie half a spacing inside the border, their values
    go on.

    Args:
        points: (b, c, *control points).
        spacing: Voxels between control points along each axis.
        stride: Voxels of an output cell along each axis; divides every size.

    Returns:
        (b, c, *cells).
    """
    ndim = points.ndim - 2
    field = F.pad(points, (MARGIN,) * 2 * ndim, mode="replicate")
    for axis in range(ndim):
        matrix = weights(points.shape[axis + 2], spacing, stride, points)
        field = torch.movedim(torch.movedim(field, axis + 2, -1) @ matrix.T, -1, axis + 2)
    return field
