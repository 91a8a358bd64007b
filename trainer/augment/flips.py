"""Mirror both images of a pair, with labels, masks and points."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainer.augment.draws import happens
from trainer.config.augment import FlipAugment
from trainer.data.batch import IMAGES, MAPS, POINTS, Batch


def flipped(batch: Batch, config: FlipAugment, draw: torch.Generator) -> Batch:
    """Each pair mirrored along each of the axes with a probability: voxel i becomes n - 1 - i."""
    axes: list[int] = [axis for axis in config.axes if axis < len(batch.size)]
    chosen: list[list[int]] = [
        [axis for axis in axes if happens(draw, config.probability)] for _ in range(len(batch))
    ]
    changed: dict[str, Any] = {}
    for name in (*IMAGES, *MAPS):
        if (values := getattr(batch, name)) is not None:
            changed[name] = torch.stack(
                [
                    torch.flip(one, [axis + 1 for axis in along])
                    for one, along in zip(values, chosen, strict=True)
                ]
            )
    for name in POINTS:
        if (points := getattr(batch, name)) is not None:
            changed[name] = torch.stack(
                [
                    _mirrored(one, along, batch.size)
                    for one, along in zip(points, chosen, strict=True)
                ]
            )
    if (u := batch.displacement) is not None:
        pairs = zip(u, chosen, strict=True)
        changed["displacement"] = torch.stack([_turned(one, along) for one, along in pairs])
    return replace(batch, **changed)


def _turned(u: Tensor, axes: list[int]) -> Tensor:
    """A displacement (d, *s) after mirroring: components along these axes change their sign."""
    signs = u.new_ones(len(u))
    signs[axes] = -1
    return torch.flip(u, [axis + 1 for axis in axes]) * signs.reshape(-1, *[1] * (u.ndim - 1))


def _mirrored(points: Tensor, axes: list[int], size: tuple[int, ...]) -> Tensor:
    points = points.clone()
    for axis in axes:
        points[:, axis] = size[axis] - 1 - points[:, axis]
    return points
