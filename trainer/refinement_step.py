"""One step of the service's refinement as an ONNX graph: `python -m trainer.refinement_step`.

The mathematics is that of the service's kernels (`service.registration.kernels.descent` and
`.evenness`, where it is derived), in ONNX's words, so that onnxruntime can run it on a GPU. A step
has no weights, and nothing about a pair is baked in: sizes and matrices are inputs.

What is linear along an axis (windows, smoothing, slopes, what repeats through the margin) is a
product with a square matrix, mostly of zeros. An H200 takes two to four times as long for one as to
multiply number by number; with convolutions of five taps in their place a step took five times as
long.

Everything lies on a padded lattice: the level's grid and MARGIN voxels around it. Volumes are
(1, i, j, k), fields (3, i, j, k), in voxels.
"""

import sys
from typing import NamedTuple

from service.registration.device_level import MATRICES
from service.registration.device_places import GRAPH
from service.registration.kernels.descent import TINY
from trainer.export_graph import OPSET
from trainer.onnx_words import Sizes, Value, Words, chosen, side_by_side, total

ON_LATTICE: Sizes = ("i", "j", "k")
VOLUME: Sizes = (1, *ON_LATTICE)
FIELD: Sizes = (3, *ON_LATTICE)
INPUTS: dict[str, Sizes] = {
    "fixed": VOLUME,  # F, of mean 0 and variance 1
    "mask": VOLUME,  # 1 where voxels count; 0 in the margin
    # Of F in a window around each voxel: 1 / N, the mean, the variance + epsilon, nowhere less
    "inverse": VOLUME,
    "mean": VOLUME,
    "variance": VOLUME,
    "moving": (1, 1, "moving_i", "moving_j", "moving_k"),  # on a lattice that the field stays on
    "field": FIELD,  # u, voxels
    # Where voxels lie on the moving lattice, whose first and last centres are -1 and 1, axes from
    # the last to the first; and what a field's components, in voxels, measure there
    "at_plane": (1, "i", "j", 1, 3),
    "at_row": (1, 1, 1, "k", 3),
    "per_voxel": (3, 3),
    "spacing_mm": (3, 1, 1, 1),
    "epsilon": (),  # floor of the variances
    "counted": (),  # voxels in the mask
    "step_mm": (),  # the largest displacement of this step
}


class Along(NamedTuple):
    """A linear operation along each axis: (n, i, i) for n components, (j, j) and (k, k).

    The first is multiplied from the left and the others, which are transposed, from the right.
    `like` is (n, i, j, k), for its shape.
    """

    i: Value
    j: Value
    k: Value
    like: Value


def made() -> bytes:
    """The graph of a step, for lattices of any size."""
    words = Words()
    given = {name: words.input(name, sizes) for name, sizes in INPUTS.items()}
    like = {1: given["fixed"], 3: given["field"]}
    along = {name: _matrices(words, name, like[count]) for name, count in MATRICES.items()}
    following, similarity = _step(given, along)
    model = words.model({"next": (following, FIELD), "similarity": (similarity, ())}, OPSET)
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph


def _matrices(words: Words, name: str, like: Value) -> Along:
    i = words.input(f"{name}_i", (MATRICES[name], "i", "i"))
    j, k = (words.input(f"{name}_{axis}", (axis, axis)) for axis in "jk")
    return Along(i, j, k, like)


def _step(given: dict[str, Value], along: dict[str, Along]) -> tuple[Value, Value]:
    """The next field, and the similarity before the step."""
    field, spacing_mm = given["field"], given["spacing_mm"]
    warped = _warped(given)
    derivative, correlation = _climbed(given, warped, along["window"])
    force = _filtered(derivative * _slopes(warped, along["uphill"]), along["force"])
    squared = total(*(part * part for part in (force * spacing_mm).split(3)))
    most = squared.largest()
    # Each vector's length to the power 3/4, and the longest of these as long as the step.
    longest_mm = (most * _compression(most) ** 2) ** 0.5
    share = given["step_mm"] / longest_mm.at_least(TINY)
    composed = _composed(field, force * (share * _compression(squared)))
    smooth = _evened(_filtered(composed, along["keep"]), along)
    following = chosen(most > 0.0, smooth, field)
    return following, correlation / given["counted"]


def _warped(given: dict[str, Value]) -> Value:
    """moving(x + u(x)), trilinear, clamped at its border."""
    field, words = given["field"], given["field"].words
    shift = field.reshaped(3, -1).transposed(1, 0) @ given["per_voxel"]
    at = given["at_plane"] + given["at_row"]
    grid = at + shift.like(at)
    warped = words.say(
        "GridSample", given["moving"], grid, padding_mode="border", align_corners=1, mode="linear"
    )
    return warped.like(given["fixed"])


def _climbed(given: dict[str, Value], warped: Value, window: Along) -> tuple[Value, Value]:
    """|mask| / 2 times LNCC's derivative by the warped image; the sum of squared correlations."""
    fixed, mask, inverse = given["fixed"], given["mask"], given["inverse"]
    mean_f, variance_f = given["mean"], given["variance"]
    inside = mask * warped
    sums = _filtered(side_by_side(inside, inside * warped, inside * fixed), window) * inverse
    mean, of_square, of_product = sums.split(3)
    variance = (of_square - mean * mean).at_least(0.0) + given["epsilon"]
    a = (of_product - mean_f * mean) / (variance_f * variance)
    b = a * a * variance_f
    integrands = side_by_side(a, b, b * mean - a * mean_f) * inverse
    of_a, of_b, of_rest = _filtered(integrands, window).split(3)
    derivative = mask * (fixed * of_a - warped * of_b + of_rest)
    # A row first, for float32 loses what little is added to a large sum.
    return derivative, (b * variance).summed(3).summed(2, 1).reshaped()


def _compression(squared: Value) -> Value:
    """By what a vector of this squared length is multiplied to have the length to the power 3/4."""
    return squared.at_least(TINY) ** -0.125


def _composed(field: Value, v: Value) -> Value:
    """v + u(x + v) to first order along each axis, upwind; beyond its ends the field goes on."""
    longer = field.repeated_beyond(0, 1, 1, 1)
    moved = []
    for axis, (component, is_forth) in enumerate(zip(v.split(3), (v > 0.0).split(3), strict=True)):
        none, both = ([0, *(end if a == axis else 1 for a in range(3))] for end in (0, 2))
        below, above = longer.cut(none, both), longer.cut(both, none)
        moved.append(component * chosen(is_forth, above - field, field - below))
    return total(v, field, *moved)


def _evened(field: Value, along: dict[str, Along]) -> Value:
    """Plus the gradient of how much volumes grow, smoothed, by what is to be evened out."""
    growth = _growth(_differences(field, along["slope"]))
    blur, even = along["blur"], along["even"]
    along_j, not_j = _along_j(growth, even), _along_j(growth, blur)
    gradient = side_by_side(
        _along_i(_along_k(not_j, blur), even),
        _along_i(_along_k(along_j, blur), blur),
        _along_i(_along_k(not_j, even), blur),
    )
    return field + gradient


def _growth(slopes: tuple[Value, Value, Value]) -> Value:
    """A bounded stand-in for log J, J the determinant of x -> x + u(x)."""
    (a, e, h), (b, f, k), (c, g, m) = (slope.split(3) for slope in slopes)
    a, f, m = a + 1.0, f + 1.0, m + 1.0
    found = total(a * (f * m - g * k), b * (g * h - e * m), c * (e * k - f * h)).at_least(0.0)
    squared = found * found
    return (squared - 1.0) * 3.0 / (squared + found * 4.0 + 1.0)


def _slopes(image: Value, uphill: Along) -> Value:
    """What an image rises by along each axis, one after the other."""
    return side_by_side(*_differences(image, uphill))


def _differences(x: Value, along: Along) -> tuple[Value, Value, Value]:
    """Along i, along j, and along k."""
    return _along_i(x, along), _along_j(x, along).transposed(0, 1, 3, 2), x @ along.k


def _filtered(x: Value, along: Along) -> Value:
    """Along all axes."""
    return _along_i(_along_k(_along_j(x, along), along), along)


def _along_i(x: Value, along: Along) -> Value:
    return (along.i @ x.reshaped(0, 0, -1)).like(along.like)


def _along_j(x: Value, along: Along) -> Value:
    """j and k change places: onnxruntime transposes as it multiplies. `_along_k` turns back."""
    return x.transposed(0, 1, 3, 2) @ along.j


def _along_k(x: Value, along: Along) -> Value:
    """Of (n, i, k, j)."""
    return x.transposed(0, 1, 3, 2) @ along.k


if __name__ == "__main__":
    GRAPH.write_bytes(made())
    sys.stdout.write(f"{GRAPH}\n")
