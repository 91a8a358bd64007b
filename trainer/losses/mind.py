"""MIND-SSC at every voxel, with derivatives, 2-D and 3-D; `trainer.networks.mind` has cells."""

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.losses.image import masked_mean
from trainer.losses.precision import full_precision

Step = tuple[int, ...]
FLOOR, CEILING, SMALLEST = 1e-3, 1e3, 1e-12  # of the noise estimate, see `descriptor`


@full_precision
def mind(
    fixed: Tensor,
    warped: Tensor,
    mask: Tensor | None = None,
    *,
    radius: int = 1,
    dilation: int = 2,
) -> Tensor:
    """The mean squared difference of MIND-SSC descriptors.

    Args:
        fixed: (b, c, *s); the descriptors of channels are averaged over.
        warped: (b, c, *s).
        mask: (b, 1, *s), in [0, 1].
        radius: See `descriptor`.
        dilation: See `descriptor`.

    Source: Heinrich et al., MICCAI 2013.
    """
    size = fixed.shape[2:]
    ours = descriptor(fixed.reshape(-1, 1, *size), radius, dilation)
    theirs = descriptor(warped.reshape(-1, 1, *size), radius, dilation)
    shape = (fixed.shape[0], -1, *size)
    return masked_mean((ours - theirs).square().reshape(shape), mask)


def descriptor(image: Tensor, radius: int = 1, dilation: int = 2) -> Tensor:
    """Self-similarities of the surroundings of each voxel, in (0, 1].

    For each pair (a, b) of face neighbours at right angles, at a distance of `dilation` voxels:
    D_ab(x) = mean over a patch of (I(x + a + p) - I(x + b + p))^2, then exp(-(D - min D) / noise),
    the noise the mean of D - min D over the pairs, within a factor of 1000 of its mean over the
    image. The image goes on beyond its border with its edge value. A constant image gives 1.

    Args:
        image: (n, 1, *s).
        radius: The patch has 2 radius + 1 voxels along each axis.
        dilation: Voxels to the neighbours.

    Returns:
        (n, 12, *s) in 3-D, (n, 4, *s) in 2-D.

    Source: Heinrich et al., Towards Realtime Multimodal Fusion for Image-Guided Interventions
    Using Self-Similarities, MICCAI 2013, section 2.
    """
    ndim = image.ndim - 2
    padded = F.pad(image, (dilation + radius,) * (2 * ndim), mode="replicate")
    size = [n + 2 * radius for n in image.shape[2:]]
    shifted = {a: _cut(padded, [dilation * (1 + n) for n in a], size) for a in _neighbours(ndim)}
    pool = F.avg_pool3d if ndim == 3 else F.avg_pool2d
    squares = torch.cat([(shifted[a] - shifted[b]).square() for a, b in _pairs(ndim)], dim=1)
    distances = pool(squares, 2 * radius + 1, stride=1) if radius else squares
    spread = distances - distances.amin(dim=1, keepdim=True)
    noise = spread.mean(dim=1, keepdim=True)
    typical = noise.detach().mean(dim=tuple(range(1, noise.ndim)), keepdim=True)
    noise = torch.maximum(torch.minimum(noise, typical * CEILING), typical * FLOOR)
    return torch.exp(-spread / noise.clamp(min=SMALLEST))


def _neighbours(ndim: int) -> list[Step]:
    units = [tuple(int(axis == n) for n in range(ndim)) for axis in range(ndim)]
    return [tuple(sign * n for n in unit) for unit in units for sign in (-1, 1)]


def _pairs(ndim: int) -> list[tuple[Step, Step]]:
    """Neighbours that do not face each other."""
    both = itertools.combinations(_neighbours(ndim), 2)
    return [(a, b) for a, b in both if sum(p * q for p, q in zip(a, b, strict=True)) == 0]


def _cut(padded: Tensor, start: list[int], size: list[int]) -> Tensor:
    cut = [slice(n, n + m) for n, m in zip(start, size, strict=True)]
    return padded[(slice(None), slice(None), *cut)]
