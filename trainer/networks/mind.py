"""MIND-SSC: a description of local structure that does not depend on the contrast."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.networks.axes import along_axes, patch

Step = tuple[int, int, int]

# The six face neighbours of a voxel, as (i, j, k) steps.
NEIGHBOURS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (1, 0, 0), (0, 1, 0), (0, 0, 1))

# Pairs of neighbours that touch each other: the twelve edges of an octahedron.
EDGES = tuple(
    (a, b)
    for n, a in enumerate(NEIGHBOURS)
    for b in NEIGHBOURS[n + 1 :]
    if sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) == 2
)
CHANNELS = len(EDGES)

# Distance of the neighbours, in voxels; also the step from cell to cell.
DILATION = 2

# The patch around a cell's middle, along each axis: a mean of three voxels (radius 1, as in
# ConvexAdam) taken at both voxels of the cell.
PATCH = (1 / 6, 2 / 6, 2 / 6, 1 / 6)

# The noise estimate stays within these factors of its mean over the image.
NOISE_FLOOR, NOISE_CEILING = 1e-3, 1e3
SMALLEST_NOISE = 1e-12


def mind_ssc(image: Tensor) -> Tensor:
    """Twelve self-similarities of the surroundings of each cell of 2**3 voxels, in (0, 1].

    For each pair (a, b) of touching face neighbours at a distance of two voxels:
    D_ab(x) = weighted mean over the patch of (I(x + a + p) - I(x + b + p))**2, then
    exp(-(D_ab - min D) / mean D), where mean D, the noise estimate, is kept within a factor of
    1000 of its mean over the image. The image goes on beyond its border with its edge value.
    A constant image gives 1 everywhere.

    The published descriptor is computed at every voxel with a patch of 3**3 voxels and then
    pooled; here the distances are pooled first (`PATCH`), an eighth of the work.

    Args:
        image: (i, j, k), even sizes.

    Returns:
        (12, i / 2, j / 2, k / 2), channels in the order of `EDGES`.

    Source: Heinrich et al., Towards Realtime Multimodal Fusion for Image-Guided Interventions
    Using Self-Similarities, MICCAI 2013, section 2; neighbours as in ConvexAdam.
    """
    distances = _patch_distances(image)
    spread = distances - distances.amin(dim=0, keepdim=True)
    noise = spread.mean(dim=0, keepdim=True)
    typical = noise.mean()
    noise = torch.maximum(torch.minimum(noise, typical * NOISE_CEILING), typical * NOISE_FLOOR)
    return torch.exp(-spread / noise.clamp(min=SMALLEST_NOISE))


def _patch_distances(image: Tensor) -> Tensor:
    """D_ab of the twelve edges.

    Opposite edges of the octahedron have the same direction d = b - a, so D_ab(x) = E_d(x + a)
    with only six maps E_d(x) = mean of (I(x + p) - I(x + d + p))**2; and because neighbours are as
    far apart as cells, x + a is a whole cell away.
    """
    directions = sorted({_direction(*_ordered(edge)) for edge in EDGES})
    maps = _directional_maps(image, directions)
    i, j, k = (n // 2 for n in image.shape)
    distances = []
    for edge in EDGES:
        a, b = _ordered(edge)
        z, y, x = (1 + step for step in a)
        found = maps[directions.index(_direction(a, b))]
        distances.append(found[z : z + i, y : y + j, x : x + k])
    return torch.stack(distances)


def _ordered(edge: tuple[Step, Step]) -> tuple[Step, Step]:
    """D_ab = D_ba: the end first from which the direction's first step is upward."""
    a, b = edge
    return (a, b) if _direction(a, b) > (0, 0, 0) else (b, a)


def _direction(a: Step, b: Step) -> Step:
    return (b[0] - a[0], b[1] - a[1], b[2] - a[2])


def _directional_maps(image: Tensor, directions: list[Step]) -> Tensor:
    """E_d at the cells and one more on each side, (6, i / 2 + 2, j / 2 + 2, k / 2 + 2)."""
    # From the first voxel of the patch of cell -1 to the last one of the cell after the end.
    margin = len(PATCH) - 1
    padded = F.pad(image[None, None], (margin + DILATION,) * 6, mode="replicate")[0, 0]
    size = [n + 2 * margin for n in image.shape]
    here = _cut(padded, (DILATION,) * 3, size)
    squares = torch.stack(
        [
            (here - _cut(padded, tuple(DILATION * (1 + step) for step in d), size)) ** 2
            for d in directions
        ]
    )
    weights = [patch(n, image, PATCH) for n in size]
    return along_axes(squares, (weights[0], weights[1], weights[2]))


def _cut(padded: Tensor, start: tuple[int, ...], size: list[int]) -> Tensor:
    (z, y, x), (i, j, k) = start, size
    return padded[z : z + i, y : y + j, x : x + k]
