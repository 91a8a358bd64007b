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
BY_AXIS = ("per_voxel", "spacing_mm", "evening", "force_scale")  # (3, 1, 1, 1, 1)
# Sizes of the lattice and of the moving one that are traced; any others will do.
TRACED, TRACED_MOVING = (8, 9, 10), (14, 15, 17)


class RefinementStep(nn.Module):
    """Climbs local correlation by one step; weights it has none."""

    def forward(
        self,
        *,
        fixed: Tensor,
        mask: Tensor,
        inverse: Tensor,
        mean: Tensor,
        variance: Tensor,
        moving: Tensor,
        field: Tensor,
        at_i: Tensor,
        at_j: Tensor,
        at_k: Tensor,
        per_voxel: Tensor,
        acts: Tensor,
        force_scale: Tensor,
        window_i: Tensor,
        window_j: Tensor,
        window_k: Tensor,
        force_taps_i: Tensor,
        force_taps_j: Tensor,
        force_taps_k: Tensor,
        field_taps_i: Tensor,
        field_taps_j: Tensor,
        field_taps_k: Tensor,
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
            inverse, mean, variance: Of F in a window around each voxel: 1 / N, mean, variance +
                epsilon, nowhere less.
            moving: On a lattice that the field stays on.
            field: u, voxels.
            at_i, at_j, at_k, per_voxel: See `_warp`.
            acts: (1, 1, i, j, 1), 0 in the margin, where the field is moved by nothing.
            force_scale: (finest spacing / spacing)^2 by axis.
            window_i, window_j, window_k: Of five voxels, 1 for what a window holds, else 0.
            force_taps_i, field_taps_i, ...: Of five voxels, smoothing.
            spacing_mm: By axis.
            evening: By axis, see `_evened`.
            epsilon: Floor of the variances.
            counted: Voxels in the mask.
            step_mm: The largest displacement of this step.
        """
        window = (window_i, window_j, window_k)
        force_taps = (force_taps_i, force_taps_j, force_taps_k)
        field_taps = (field_taps_i, field_taps_j, field_taps_k)
        warped = _warp(moving, field, (at_i, at_j, at_k), per_voxel)
        statistics = (inverse, mean, variance)
        derivative, correlation = _climbed((fixed, mask), statistics, warped, window, epsilon)
        force = _filtered(derivative * (force_scale * _slopes(warped)), force_taps)
        force = _compressed(acts * force, spacing_mm)
        largest_mm = torch.sqrt(_squared_mm(force, spacing_mm).max())
        share = step_mm / torch.clamp(largest_mm, min=TINY)
        composed = _composed(field, share * force)
        smooth = _evened(_extended(_filtered(composed, field_taps, padding=0)), evening)
        following = torch.where(largest_mm > 0, smooth, field)
        return following, correlation / counted


Taps = tuple[Tensor, Tensor, Tensor]


def _filtered(x: Tensor, taps: Taps, padding: int = MARGIN) -> Tensor:
    """Five taps along each axis. Zeros lie beyond, or nothing is padded."""
    for axis in range(3):
        pad = [0, 0, 0]
        pad[axis] = padding
        x = F.conv3d(x, taps[axis], padding=pad)
    return x


def _warp(moving: Tensor, field: Tensor, at: tuple[Tensor, ...], per_voxel: Tensor) -> Tensor:
    """moving(x + u(x)), trilinear, clamped at its border.

    `at` says where the voxels of each axis lie on the moving lattice, from -1 at the centre of its
    first voxel to 1 at that of its last; `per_voxel` what a voxel measures there.
    """
    i, j, k = (
        u + place for u, place in zip(torch.unbind(per_voxel * field, dim=0), at, strict=True)
    )
    grid = torch.stack((k, j, i), dim=-1)
    return F.grid_sample(moving, grid, padding_mode="border", align_corners=True)


def _climbed(
    images: tuple[Tensor, Tensor],
    statistics: tuple[Tensor, Tensor, Tensor],
    warped: Tensor,
    window: Taps,
    epsilon: Tensor,
) -> tuple[Tensor, Tensor]:
    """|mask| / 2 times the derivative of LNCC by the warped image; the sum of squared correlations.

    `images`: F and the mask; `statistics` of F's windows: 1 / N, the mean, the variance + epsilon.
    """
    fixed, mask = images
    inverse, mean_f, variance_f = statistics
    inside = mask * warped
    sums = _filtered(torch.cat((inside, inside * warped, inside * fixed)), window) * inverse
    mean, of_square, of_product = torch.split(sums, 1)
    variance = torch.clamp(of_square - mean * mean, min=0.0) + epsilon
    a = (of_product - mean_f * mean) / (variance_f * variance)
    b = a * a * variance_f
    integrands = torch.cat((a, b, b * mean - a * mean_f)) * inverse
    of_a, of_b, of_rest = torch.split(_filtered(integrands, window), 1)
    derivative = mask * (fixed * of_a - warped * of_b + of_rest)
    # Axis by axis, for float32 loses what little is added to a large sum.
    return derivative, (b * variance).sum(-1).sum(-1).sum()


def _slopes(x: Tensor) -> Tensor:
    """Central differences of (1, 1, i, j, k) along each axis, beyond whose ends x goes on."""
    return 0.5 * torch.cat([_rise(x, axis) for axis in range(3)])


def _rise(x: Tensor, axis: int) -> Tensor:
    """What lies a voxel further, less what lies a voxel before; twice the slope."""
    x = _longer(x, axis)
    return _cut(x, axis, 2, None) - _cut(x, axis, 0, -2)


def _squared_mm(force: Tensor, spacing_mm: Tensor) -> Tensor:
    in_mm = force * spacing_mm
    return (in_mm * in_mm).sum(0, keepdim=True)


def _compressed(force: Tensor, spacing_mm: Tensor) -> Tensor:
    """Each vector's length, in mm, to the power 3/4."""
    # Not + TINY, as the kernels have it: the exporter takes that for + 0 and leaves it out.
    return force * torch.clamp(_squared_mm(force, spacing_mm), min=TINY) ** -0.125


def _composed(field: Tensor, v: Tensor) -> Tensor:
    """v + u(x + v) to first order along each axis, upwind; beyond its ends the field goes on."""
    out = v + field
    forth, back = (torch.split(x, 1) for x in (torch.clamp(v, min=0.0), torch.clamp(v, max=0.0)))
    for axis in range(3):
        longer = _longer(field, axis)
        step = _cut(longer, axis, 1, None) - _cut(longer, axis, 0, -1)
        below, above = _cut(step, axis, 0, -1), _cut(step, axis, 1, None)
        out = out + forth[axis] * above + back[axis] * below
    return out


def _evened(field: Tensor, evening: Tensor) -> Tensor:
    """Plus `evening`, by axis, times the gradient of how much volumes grow, which is smoothed."""
    quarters = torch.tensor([0.0, 0.25, 0.5, 0.25, 0.0])
    taps = quarters.reshape(_along(0)), quarters.reshape(_along(1)), quarters.reshape(_along(2))
    smooth = _filtered(_extended(_growth(field), 2 * MARGIN), taps, padding=0)
    return _extended(_inner(field + evening * _slopes(smooth)))


def _growth(field: Tensor) -> Tensor:
    """A bounded stand-in for log J, J the determinant of x -> x + u(x), off the margin."""
    slopes = [0.5 * _rise(field, axis) for axis in range(3)]
    (a, e, h), (b, f, k), (c, g, m) = (torch.split(slope, 1) for slope in slopes)
    a, f, m = a + 1.0, f + 1.0, m + 1.0
    found = a * (f * m - g * k) - b * (e * m - g * h) + c * (e * k - f * h)
    found = torch.clamp(found, min=0.0)
    squared = found * found
    found = 3.0 * (squared - 1.0) / (squared + 4.0 * found + 1.0)
    return _inner(found)


def _inner(x: Tensor) -> Tensor:
    return x[..., MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _extended(x: Tensor, by: int = MARGIN) -> Tensor:
    """The outermost values repeated through a margin."""
    return F.pad(x, (by,) * 6, mode="replicate")


def _longer(x: Tensor, axis: int) -> Tensor:
    """The outermost values repeated once at both ends of an axis."""
    ends = [0] * 6  # from the last axis to the first
    ends[4 - 2 * axis : 6 - 2 * axis] = [1, 1]
    return F.pad(x, ends, mode="replicate")


def _cut(x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
    return x[(slice(None),) * (2 + axis) + (slice(start, end),)]


def _along(axis: int) -> tuple[int, ...]:
    """The shape of five taps along an axis."""
    return (1, 1, *(5 if a == axis else 1 for a in range(3)))


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
    single = ("fixed", "mask", "inverse", "mean", "variance")
    volumes = {name: torch.ones(1, 1, *TRACED) for name in single}
    volumes["field"] = torch.ones(3, 1, *TRACED)
    places = {f"at_{axis}": torch.ones(shape) for axis, shape in zip("ijk", _places(), strict=True)}
    by_axis = {name: torch.ones(3, 1, 1, 1, 1) for name in BY_AXIS}
    taps = {
        f"{name}_{axis}": torch.ones(_along(n))
        for name in ("window", "force_taps", "field_taps")
        for n, axis in enumerate("ijk")
    }
    acts = {"acts": torch.ones(1, 1, *TRACED[:2], 1)}
    scalars = {name: torch.tensor(1.0) for name in ("epsilon", "counted", "step_mm")}
    moving = {"moving": torch.ones(1, 1, *TRACED_MOVING)}
    return volumes | moving | places | by_axis | acts | taps | scalars


def _places() -> list[tuple[int, ...]]:
    """The shapes of the places along each axis, which are added to (1, i, j, k)."""
    return [(1, *(n if a == axis else 1 for a in range(3))) for axis, n in enumerate(TRACED)]


def _sizes(inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Which axes of the inputs may be of any size."""
    ours, theirs = (
        {2 + n: torch.export.Dim(f"{lattice}_{axis}", min=5) for n, axis in enumerate("ijk")}
        for lattice in ("fixed", "moving")
    )
    volumes = dict.fromkeys(("fixed", "mask", "inverse", "mean", "variance", "field"), ours)
    places = {f"at_{axis}": {1 + n: ours[2 + n]} for n, axis in enumerate("ijk")}
    acts = {axis: size for axis, size in ours.items() if axis < 4}
    return dict.fromkeys(inputs) | volumes | {"moving": theirs, "acts": acts} | places


if __name__ == "__main__":
    GRAPH.write_bytes(made())
    sys.stdout.write(f"{GRAPH}\n")
