"""Images of label maps: random contrast, blur, thick slices, bias, gamma, noise, field of view."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor

from trainer.augment.draws import happens, smooth_field, uniform, whole
from trainer.config.synth import SynthImageConfig
from trainer.kernels.synthesis import coloured
from trainer.networks.axes import hat
from trainer.networks.spread import along_each

THINNEST_BLUR = 0.1  # voxels: less than that changes nothing


@dataclass(frozen=True)
class Contrast:
    """Mean and standard deviation of each label's grey values, (labels,), label 0 first."""

    means: Tensor
    spreads: Tensor


def random_contrast(config: SynthImageConfig, count: int, draw: torch.Generator) -> Contrast:
    """Of so many labels, background included, which is perhaps black."""
    low, high = config.mean
    means = low + (high - low) * torch.rand(count, generator=draw)
    low, high = config.spread
    spreads = low + (high - low) * torch.rand(count, generator=draw)
    if happens(draw, config.black_background):
        means[0] = spreads[0] = 0
    return Contrast(means, spreads)


def rendered(
    labels: Tensor,
    contrast: Contrast,
    config: SynthImageConfig,
    spacing_mm: tuple[float, ...],
    draw: torch.Generator,
) -> Tensor:
    """A random image (1, *s) in [0, 1] of a label map (*s).

    Each label has a mean and a spread; then come blur and thick slices, a smooth factor, a stretch
    to [0, 1], gamma, noise, and black outside a random field of view.
    """
    size = labels.shape
    image = _coloured(labels, contrast, draw)
    image = along_each(image[None, None], _sharpness(config, size, draw))[0, 0]
    bias = uniform(draw, 0, config.bias)
    if bias > 0:
        apart = [config.bias_node_mm / mm for mm in spacing_mm]
        image *= smooth_field(draw, 1, size, apart)[0].mul_(bias).exp_()
    low, high = torch.aminmax(image)
    image = (image - low) / (high - low).clamp(min=1e-6)
    image = image ** exp(config.gamma * float(torch.randn((), generator=draw)))
    spread = uniform(draw, 0, config.noise)
    if spread > 0:
        image += spread * torch.randn(size, generator=draw)
    return _cropped(image.clamp_(0, 1), config, draw)[None]


def _coloured(labels: Tensor, contrast: Contrast, draw: torch.Generator) -> Tensor:
    """Normal grey values of each label's own mean and spread."""
    means, spreads = contrast.means.numpy(), contrast.spreads.numpy()
    image = torch.randn(labels.shape, generator=draw)
    coloured(labels.numpy().ravel(), means, spreads, image.numpy().ravel())
    return image


def _sharpness(
    config: SynthImageConfig, size: Sequence[int], draw: torch.Generator
) -> list[Tensor]:
    """Blur and thick slices as one matrix for each axis."""
    matrices = [_blur(n, uniform(draw, 0, config.blur_voxels)) for n in size]
    axis, thickness = whole(draw, 0, len(size) - 1), whole(draw, 2, config.slice_voxels)
    if happens(draw, config.slices_probability) and size[axis] >= 2 * thickness:
        matrices[axis] = _slices(size[axis], thickness) @ matrices[axis]
    return matrices


def _blur(count: int, sigma: float) -> Tensor:
    """(count, count): a Gaussian, of the voxels there are."""
    if sigma < THINNEST_BLUR:
        return torch.eye(count)
    here = torch.arange(count, dtype=torch.float32)
    weights = torch.exp(-((here[:, None] - here) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def _slices(count: int, thickness: int) -> Tensor:
    """(count, count): means of slabs, linear between their centres."""
    here = torch.arange(count, dtype=torch.float32)
    slab = (here / thickness).floor()
    slabs = int(slab[-1]) + 1
    inside = (slab == torch.arange(slabs)[:, None]).float()
    means = inside / inside.sum(dim=1, keepdim=True)
    return hat((here - (thickness - 1) / 2) / thickness, slabs) @ means


def _cropped(image: Tensor, config: SynthImageConfig, draw: torch.Generator) -> Tensor:
    """Black outside a box that has lost up to `crop` of each axis."""
    boxes = []
    for n in image.shape:
        lost, side = uniform(draw, 0, config.crop) * n, uniform(draw, 0, 1)
        boxes.append((round(lost * side), n - round(lost * (1 - side))))
    if happens(draw, config.crop_probability):
        for axis, (first, end) in enumerate(boxes):
            image.narrow(axis, 0, first).zero_()
            image.narrow(axis, end, image.shape[axis] - end).zero_()
    return image
