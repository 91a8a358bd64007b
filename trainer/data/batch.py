"""What a training step gets: pairs on their model grid, as tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name


@dataclass(frozen=True)
class Batch:
    """Pairs on the fixed image's model grid; moving is placed there by the initial affine.

    Images (b, c, *s) as the card's intensity rule makes them. Labels (b, l, *s) in [0, 1]; one
    that an image lacks is all zero, and `label_present` (b, l) is true where both images have it.
    Points (b, n, d) in voxels of the grid, row by row the same place, NaN where padded: the fixed
    point x goes to x + u(x), the moving point. Masks (b, 1, *s), 1 inside. `displacement`
    (b, d, *s) is the true u of synthetic pairs in voxels, NaN where it is not known. `label_values`
    names the labels of each pair, 0 where a pair has fewer.
    """

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor | None = None
    moving_labels: Tensor | None = None
    label_present: Tensor | None = None
    fixed_points: Tensor | None = None
    moving_points: Tensor | None = None
    fixed_mask: Tensor | None = None
    moving_mask: Tensor | None = None
    displacement: Tensor | None = None
    names: tuple[str, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    label_values: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.fixed)

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels along each axis of the model grid, padding included."""
        return tuple(self.fixed.shape[2:])

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same batch with every tensor changed."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {
            name: change(tensor) for name, tensor in tensors.items() if isinstance(tensor, Tensor)
        }
        return replace(self, **changed)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device; copies from pinned memory do not wait."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))


IMAGES = ("fixed", "moving")
MAPS = ("fixed_labels", "moving_labels", "fixed_mask", "moving_mask")
POINTS = ("fixed_points", "moving_points")


def collate(samples: Sequence[Batch], padding: str = "edge") -> Batch:
    """One batch of several.

    Sizes that differ are padded at the far end: images by their edge value (or zero), labels and
    masks by zero, so that padded voxels count as masked where there is a mask. Points are padded
    with rows of NaN, labels with absent ones. A role that only some samples have is absent
    (labels), NaN (points) or 1 (masks) in the others.

    Raises:
        ValueError: If there is no sample, or their voxels differ in size.
    """
    if not samples:
        raise ValueError("there is nothing to collate")
    if len({sample.spacing_mm for sample in samples}) > 1:
        raise ValueError("a batch has one spacing")
    if len(samples) == 1:
        return samples[0]
    sizes = [sample.size for sample in samples]
    size = tuple(max(lengths) for lengths in zip(*sizes, strict=True))
    samples = [_completed(sample, samples) for sample in samples]
    parts: dict[str, Tensor | None] = {}
    for name in IMAGES:
        parts[name] = _joined(samples, name, size, padding)
    for name in MAPS:
        parts[name] = _joined(samples, name, size, "zero")
    for name in POINTS:
        parts[name] = _rows(samples, name, float("nan"))
    parts["displacement"] = _joined(samples, "displacement", size, "unknown")
    parts["label_present"] = _rows(samples, "label_present", False)
    count = 0 if (present := parts["label_present"]) is None else present.shape[1]
    values = tuple(v + (0,) * (count - len(v)) for s in samples for v in s.label_values)
    return Batch(
        **parts,  # type: ignore[arg-type]
        names=tuple(name for sample in samples for name in sample.names),
        spacing_mm=samples[0].spacing_mm,
        label_values=values,
    )


def _completed(sample: Batch, samples: Sequence[Batch]) -> Batch:
    """The sample with what others have and it lacks."""
    some = {f.name for s in samples for f in fields(s) if isinstance(getattr(s, f.name), Tensor)}
    missing = {name for name in some if getattr(sample, name) is None}
    ndim, count = sample.fixed.ndim - 2, len(sample)
    empty: dict[str, Any] = {}
    for name in missing:
        if name in POINTS:
            empty[name] = sample.fixed.new_zeros((count, 0, ndim))
        elif name == "label_present":
            empty[name] = torch.zeros((count, 0), dtype=torch.bool, device=sample.fixed.device)
        elif name == "displacement":
            shape = (count, ndim, *sample.size)
            empty[name] = sample.fixed.new_full(shape, float("nan"))
        elif name.endswith("mask"):
            empty[name] = sample.fixed.new_ones((count, 1, *sample.size))
        else:
            empty[name] = sample.fixed.new_zeros((count, 0, *sample.size))
    values = sample.label_values or ((),) * count
    return replace(sample, **empty, label_values=values)


def _joined(
    samples: Sequence[Batch], name: str, size: tuple[int, ...], padding: str
) -> Tensor | None:
    tensors = [getattr(sample, name) for sample in samples]
    if any(tensor is None for tensor in tensors):
        return None
    channels = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([_padded(tensor, channels, size, padding) for tensor in tensors])


def _padded(tensor: Tensor, channels: int, size: tuple[int, ...], padding: str) -> Tensor:
    widths = [(0, n - m) for n, m in zip(size, tensor.shape[2:], strict=True)]
    flat = [width for pair in reversed(widths) for width in pair]
    if padding == "edge":
        return F.pad(tensor, flat, mode="replicate") if any(flat) else tensor
    value = float("nan") if padding == "unknown" else 0.0
    return F.pad(tensor, [*flat, 0, channels - tensor.shape[1]], value=value)


def _rows(samples: Sequence[Batch], name: str, fill: float) -> Tensor | None:
    """Tensors of one row for each point or label, joined with as many rows as the longest has."""
    tensors = [getattr(sample, name) for sample in samples]
    if any(tensor is None for tensor in tensors):
        return None
    longest = max(tensor.shape[1] for tensor in tensors)
    padded = []
    for tensor in tensors:
        rest = tensor.new_full((len(tensor), longest - tensor.shape[1], *tensor.shape[2:]), fill)
        padded.append(torch.cat([tensor, rest], dim=1))
    return torch.cat(padded)
