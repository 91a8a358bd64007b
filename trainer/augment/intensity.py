"""Random changes of grey values, and of resolution; each image has its own."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.augment.draws import happens, smooth_field, uniform, whole
from trainer.config.augment import IntensityAugment, LowResolutionAugment


def recoloured(
    images: Tensor, config: IntensityAugment, spacing_mm: tuple[float, ...], draw: torch.Generator
) -> Tensor:
    """Images (b, c, *s) with other gamma, contrast, bias, sharpness and noise, in their old range.

    With low and high an image's extremes: gamma raises (v - low) / (high - low) to exp(N(0, s²));
    contrast stretches about the mean; bias multiplies by exp of a smooth field; blur is Gaussian;
    noise is added in units of high - low; what leaves [low, high] is clipped.
    """
    return torch.stack([_recoloured(image, config, spacing_mm, draw) for image in images])


def _recoloured(
    image: Tensor, config: IntensityAugment, spacing_mm: tuple[float, ...], draw: torch.Generator
) -> Tensor:
    low, high = image.min(), image.max()
    span = (high - low).clamp(min=1e-12)
    values = (image - low) / span
    p, device = config.probability, image.device
    log_gamma = config.gamma * float(torch.randn((), generator=draw))
    if happens(draw, p):
        values = values ** math.exp(log_gamma)
    stretch = uniform(draw, 1 - config.contrast, 1 + config.contrast)
    if happens(draw, p):
        values = (values - values.mean()) * stretch + values.mean()
    if happens(draw, p) and config.bias > 0:
        apart = [config.bias_node_mm / spacing for spacing in spacing_mm]
        bias = smooth_field(draw, 1, image.shape[1:], apart).to(device)
        values = values * torch.exp(uniform(draw, 0, config.bias) * bias)
    sigma = uniform(draw, 0, config.blur_voxels)
    if happens(draw, p) and sigma > 0.1:
        values = blurred(values, sigma)
    spread = uniform(draw, 0, config.noise)
    if happens(draw, p) and spread > 0:
        values = values + spread * torch.randn(image.shape, generator=draw).to(device)
    return values.clamp(0, 1) * span + low


def blurred(image: Tensor, sigma: float) -> Tensor:
    """An image (c, *s) after a Gaussian blur of `sigma` voxels, cut at 3 sigma; edges go on."""
    reach = max(1, math.ceil(3 * sigma))
    places = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    for axis in range(1, image.ndim):
        if image.shape[axis] > 1:
            lines = image.movedim(axis, -1)
            flat = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
            image = F.conv1d(flat, weights[None, None]).reshape(lines.shape).movedim(-1, axis)
    return image


def thickened(images: Tensor, config: LowResolutionAugment, draw: torch.Generator) -> Tensor:
    """Images (b, c, *s), some as if their slices along one axis had been thick.

    Means of `factor` voxels, linear between their centres, the edge's value beyond.
    """
    return torch.stack([_thickened(image, config, draw) for image in images])


def _thickened(image: Tensor, config: LowResolutionAugment, draw: torch.Generator) -> Tensor:
    axis, factor = whole(draw, 1, image.ndim - 1), whole(draw, 2, config.factor)
    if not happens(draw, config.probability) or image.shape[axis] < 2 * factor:
        return image
    lines = image.movedim(axis, -1)
    flat = lines.reshape(-1, 1, lines.shape[-1])
    padded = F.pad(flat, (0, -flat.shape[-1] % factor), mode="replicate")
    slabs = F.avg_pool1d(padded, factor)
    back = F.interpolate(slabs, scale_factor=factor, mode="linear", align_corners=False)
    return back[..., : lines.shape[-1]].reshape(lines.shape).movedim(-1, axis)
