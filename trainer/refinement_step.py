"""One step of the service's refinement as an ONNX graph: `python -m trainer.refinement_step`.

The mathematics is that of the service's kernels (`service.registration.kernels.descent` and
`.evenness`, where it is derived), in torch's words, so that onnxruntime can run it on a GPU. A step
has no weights, and nothing about a pair is baked in: sizes, windows and taps are inputs.

Everything lies on a padded lattice: the level's grid and MARGIN voxels around it. Volumes are
(1, 1, i, j, k); fields, in voxels, are (3, 1, i, j, k), so that a filter takes one component after
the other as a batch.
"""

import logging
import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from service.registration.device_level import GRAPH
from service.registration.kernels.descent import TINY
from service.registration.kernels.planes import MARGIN
from trainer.export_graph import OPSET, without_traces

OUTPUTS = ("next", "similarity")
# Sizes of the lattice and of the moving one that are traced; any others will do.
TRACED, TRACED_MOVING = (8, 9, 10), (14, 15, 17)


class RefinementStep(nn.Module):
    """Climbs local correlation by one step; weights it has none."""

    def forward(
        self,
        *,
        fixed: Tensor,
        mask: Tensor,
        statistics: Tensor,
        moving: Tensor,
        field: Tensor,
        at_i: Tensor,
        at_j: Tensor,
        at_k: Tensor,
        per_voxel: Tensor,
        acts: Tensor,
        force_scale: Tensor,
        window: Tensor,
        force_taps: Tensor,
        field_taps: Tensor,
        spacing_mm: Tensor,
        evening: Tensor,
        epsilon: Tensor,
        counted: Tensor,
        step_mm: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The next field, and the similarity before the step.

        Args:
            fixed: F, of mean 0 and variance 1.
            mask: 1 where voxels count; 0 in the margin.
            statistics: Of F in a window around each voxel: 1 / N, mean, variance + epsilon.
            moving: On a lattice that the field stays on.
            field: u, voxels.
            at_i, at_j, at_k, per_voxel: See `_warp`.
            acts: (1, 1, i, j, 1), 0 in the margin, where the field is moved by nothing.
            force_scale: (finest spacing / spacing)^2 by axis.
            window: (3 axes, 5), 1 for what a window holds, else 0.
            force_taps, field_taps: (3 axes, 5), smoothing.
            spacing_mm: By axis.
            evening: By axis, see `_evened`.
            epsilon: Floor of the variances.
            counted: Voxels in the mask.
            step_mm: The largest displacement of this step.
        """
        warped = _warp(moving, field, (at_i, at_j, at_k), per_voxel)
        derivative, correlation = _climbed((fixed, mask, statistics), warped, window, epsilon)
        force = _filtered(_force(derivative, warped, force_scale), force_taps)
        force = _compressed(acts * force, spacing_mm)
        largest_mm = torch.sqrt(_squared_mm(force, spacing_mm).max())
        share = step_mm / torch.clamp(largest_mm, min=TINY)
        composed = _composed(field, share * force)
        smooth = _evened(_extended(_filtered(composed, field_taps, padding=0)), evening)
        following = torch.where(largest_mm > 0, smooth, field)
        return following, correlation / counted


def _filtered(x: Tensor, taps: Tensor, padding: int = MARGIN) -> Tensor:
    """Five taps along each axis; `taps` (3 axes, 5). Zeros lie beyond, or nothing is padded."""
    for axis in range(3):
        shape, pad = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], pad[axis] = 5, padding
        x = F.conv3d(x, taps[axis].reshape(shape), padding=pad)
    return x


def _warp(moving: Tensor, field: Tensor, at: tuple[Tensor, ...], per_voxel: Tensor) -> Tensor:
    """moving(x + u(x)), trilinear, clamped at its border.

    `at` says where the voxels of each axis lie on the moving lattice, from -1 at the centre of its
    first voxel to 1 at that of its last; `per_voxel` what a voxel measures there.
    """
    u = per_voxel.reshape(3, 1, 1, 1, 1) * field
    i = u[0] + at[0].reshape(1, -1, 1, 1)
    j = u[1] + at[1].reshape(1, 1, -1, 1)
    k = u[2] + at[2].reshape(1, 1, 1, -1)
    grid = torch.stack((k, j, i), dim=-1)
    return F.grid_sample(moving, grid, padding_mode="border", align_corners=True)


def _climbed(
    images: tuple[Tensor, Tensor, Tensor], warped: Tensor, window: Tensor, epsilon: Tensor
) -> tuple[Tensor, Tensor]:
    """|mask| / 2 times the derivative of LNCC by the warped image; the sum of squared correlations.

    `images`: F, the mask, and of F's windows 1 / N, the mean, and the variance + epsilon.
    """
    fixed, mask, statistics = images
    inverse, mean_f = statistics[0:1], statistics[1:2]
    variance_f = torch.maximum(statistics[2:3], epsilon)  # in parts of the margin it is 0
    inside = mask * warped
    sums = _filtered(torch.cat((inside, inside * warped, inside * fixed)), window)
    mean = sums[0:1] * inverse
    variance = torch.clamp(sums[1:2] * inverse - mean * mean, min=0.0) + epsilon
    a = (sums[2:3] * inverse - mean_f * mean) / (variance_f * variance)
    b = a * a * variance_f
    integrands = torch.cat((a, b, b * mean - a * mean_f)) * inverse
    boxes = _filtered(integrands, window)
    derivative = mask * (fixed * boxes[0:1] - warped * boxes[1:2] + boxes[2:3])
    # Axis by axis, for float32 loses what little is added to a large sum.
    return derivative, (b * variance).sum(-1).sum(-1).sum()


def _force(derivative: Tensor, warped: Tensor, scale: Tensor) -> Tensor:
    """The derivative times the gradient of W, as a shift in voxels of each axis."""
    return torch.cat([derivative * scale[n] * _slope(warped, n) for n in range(3)])


def _slope(x: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, beyond whose ends x goes on."""
    x = _longer(x, axis, 1)
    return 0.5 * (_cut(x, axis, 2, None) - _cut(x, axis, 0, -2))


def _squared_mm(force: Tensor, spacing_mm: Tensor) -> Tensor:
    in_mm = force * spacing_mm.reshape(3, 1, 1, 1, 1)
    return (in_mm * in_mm).sum(0, keepdim=True)


def _compressed(force: Tensor, spacing_mm: Tensor) -> Tensor:
    """Each vector's length, in mm, to the power 3/4."""
    # Not + TINY, as the kernels have it: the exporter takes that for + 0 and leaves it out.
    return force * torch.clamp(_squared_mm(force, spacing_mm), min=TINY) ** -0.125


def _composed(field: Tensor, v: Tensor) -> Tensor:
    """v + u(x + v) to first order along each axis, upwind; beyond its ends the field goes on."""
    out = v + field
    for axis in range(3):
        longer = _longer(field, axis, 1)
        step = _cut(longer, axis, 1, None) - _cut(longer, axis, 0, -1)
        below, above = _cut(step, axis, 0, -1), _cut(step, axis, 1, None)
        share = v[axis : axis + 1]
        out = out + torch.clamp(share, min=0.0) * above + torch.clamp(share, max=0.0) * below
    return out


def _evened(field: Tensor, evening: Tensor) -> Tensor:
    """Plus `evening`, by axis, times the gradient of how much volumes grow, which is smoothed."""
    quarters = torch.tensor([0.0, 0.25, 0.5, 0.25, 0.0]).expand(3, 5)
    growth = _extended(_growth(field))
    smooth = _filtered(_extended(growth), quarters, padding=0)
    slopes = torch.cat([_slope(smooth, axis) for axis in range(3)])
    return _extended(_inner(field + evening.reshape(3, 1, 1, 1, 1) * slopes))


def _growth(field: Tensor) -> Tensor:
    """A bounded stand-in for log J, J the determinant of x -> x + u(x), off the margin."""
    slopes = [_inner(_slope(field, axis)) for axis in range(3)]
    (a, e, h), (b, f, k), (c, g, m) = (
        [slope[q : q + 1] + (1.0 if q == axis else 0.0) for q in range(3)]
        for axis, slope in enumerate(slopes)
    )
    found = a * (f * m - g * k) - b * (e * m - g * h) + c * (e * k - f * h)
    found = torch.clamp(found, min=0.0)
    squared = found * found
    return 3.0 * (squared - 1.0) / (squared + 4.0 * found + 1.0)


def _inner(x: Tensor) -> Tensor:
    return x[..., MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _extended(x: Tensor) -> Tensor:
    """The outermost values repeated through a margin."""
    for axis in range(3):
        x = _longer(x, axis, MARGIN)
    return x


def _longer(x: Tensor, axis: int, by: int) -> Tensor:
    """The outermost values repeated so often at both ends of an axis."""
    first, last = _cut(x, axis, 0, 1), _cut(x, axis, -1, None)
    return torch.cat((*[first] * by, x, *[last] * by), dim=2 + axis)


def _cut(x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
    return x[(slice(None),) * (2 + axis) + (slice(start, end),)]


def made() -> bytes:
    """The graph of a step, for lattices of any size, with the names that `forward` has."""
    inputs = _example()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            RefinementStep().eval(),
            kwargs=inputs,
            dynamo=True,
            opset_version=OPSET,
            output_names=OUTPUTS,
            dynamic_shapes=_sizes(inputs),
            verbose=False,
        )
    graph: bytes = without_traces(program.model_proto).SerializeToString(deterministic=True)
    return graph


def _example() -> dict[str, Tensor]:
    """Inputs by name, of the right shapes."""
    channels = {"fixed": 1, "mask": 1, "statistics": 3, "field": 3}
    volumes = {name: torch.ones(n, 1, *TRACED) for name, n in channels.items()}
    places = {f"at_{axis}": torch.ones(n) for axis, n in zip("ijk", TRACED, strict=True)}
    by_axis = {
        name: torch.ones(3) for name in ("per_voxel", "spacing_mm", "evening", "force_scale")
    }
    taps = {name: torch.ones(3, 5) for name in ("window", "force_taps", "field_taps")}
    acts = {"acts": torch.ones(1, 1, *TRACED[:2], 1)}
    scalars = {name: torch.tensor(1.0) for name in ("epsilon", "counted", "step_mm")}
    moving = {"moving": torch.ones(1, 1, *TRACED_MOVING)}
    return volumes | moving | places | by_axis | acts | taps | scalars


def _sizes(inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Which axes of the inputs may be of any size."""
    ours, theirs = (
        {2 + n: torch.export.Dim(f"{lattice}_{axis}", min=5) for n, axis in enumerate("ijk")}
        for lattice in ("fixed", "moving")
    )
    volumes = dict.fromkeys(("fixed", "mask", "statistics", "field"), ours)
    places = {f"at_{axis}": {0: ours[2 + n]} for n, axis in enumerate("ijk")}
    acts = {axis: size for axis, size in ours.items() if axis < 4}
    return dict.fromkeys(inputs) | volumes | {"moving": theirs, "acts": acts} | places


if __name__ == "__main__":
    GRAPH.write_bytes(made())
    sys.stdout.write(f"{GRAPH}\n")
