"""The steps of refinement as a graph, beside the kernels: one field, one similarity.

Run by onnxruntime's CPU provider, bound as on a GPU, on the graph that a GPU is given.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

onnxruntime = pytest.importorskip("onnxruntime")

from service.errors import ProviderUnavailableError  # noqa: E402
from service.registration.descent import LatticeField, Level, LevelPair, grown  # noqa: E402
from service.registration.device_level import (  # noqa: E402
    CAPTURED_VOXELS,
    DeviceLevel,
    level_for,
)
from service.registration.device_places import GRAPH  # noqa: E402
from service.registration.engine import Engine  # noqa: E402
from service.registration.fields import Affine, DisplacementField  # noqa: E402
from service.registration.files.limits import Limits  # noqa: E402
from service.registration.files.volume_file import read_volume  # noqa: E402
from service.registration.grid import Grid  # noqa: E402
from service.registration.initialise import initialise  # noqa: E402
from service.registration.levels import (  # noqa: E402
    Levels,
    fixed_levels,
    moving_levels,
)
from service.registration.options import Refine  # noqa: E402
from service.registration.refine import (  # noqa: E402
    climb,
    level_spacings,
    plan_for,
    refine,
)
from service.registration.volume import Volume  # noqa: E402

STEPS = 20
ALIKE = 0.01  # voxels
CASES = {
    "coarse slices, left-handed": ("LAS", (33, 31, 14), (1.1, 1.0, 4.5)),
    "one slice": ("RAS", (33, 40, 1), (1.0, 1.2, 3.0)),
    "oblique": ("oblique", (26, 24, 31), (1.2, 1.3, 0.9)),
    "even": ("RAS", (28, 26, 30), (2.0, 2.0, 2.0)),
}


def waves(shape: tuple[int, int, int], voxels: float) -> np.ndarray:
    """A smooth displacement along each axis, (3, i, j, k)."""
    index = np.indices(shape, dtype=np.float64)
    phase = [2 * np.pi * index[axis] / shape[axis] for axis in range(3)]
    return voxels * np.stack([np.sin(phase[1]), np.sin(phase[2] + 1), np.cos(phase[0])])


def pair_on(grid: Grid, rng: np.random.Generator, *, masked: bool) -> LevelPair:
    """fixed(x) = moving(A(x + u(x))), where A shifts by a voxel; the masks have holes."""
    moving = ndimage.gaussian_filter(rng.standard_normal(grid.shape), 2.0).astype(np.float32)
    places = np.indices(grid.shape) + waves(grid.shape, 1.5)
    fixed = ndimage.map_coordinates(moving, places, order=1, mode="nearest").astype(np.float32)
    shift = np.eye(4)
    shift[:3, 3] = grid.affine[:3, :3] @ (np.array(grid.shape) > 1)
    inside = np.ones(grid.shape, np.float32)
    inside[:6] = inside[10:13, 9:14, 3:8] = 0
    masks = (Volume(inside, grid), Volume(inside[::-1].copy(), grid)) if masked else ()
    return LevelPair(Volume(100 * fixed, grid), Volume(7 * moving, grid), Affine(shift), *masks)


def start_on(grid: Grid) -> LatticeField:
    """Not zero, and on another grid, as a coarser level's field is."""
    coarse = grid.coarsened(grid.voxel_count // 8)
    vectors = np.moveaxis(waves(coarse.shape, 0.5), 0, -1).astype(np.float32)
    return LatticeField.of(DisplacementField(np.ascontiguousarray(vectors), coarse), grid)


def voxels_apart(one: Level, other: Level) -> float:
    """Largest difference of two levels' fields."""
    apart_mm = np.abs(one.field.along_mm - other.field.along_mm)
    return float((apart_mm / one.grid.spacing_mm[:, None, None, None]).max())


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("case", CASES)
def test_a_climb_ends_where_the_kernels_end(
    case: str, masked: bool, make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid(*CASES[case])
    pair, start = pair_on(grid, rng, masked=masked), start_on(grid)
    kernels, device = Level(pair, start), DeviceLevel(pair, start, provider="cpu")
    assert voxels_apart(kernels, device) == 0
    step_mm = 0.6 * float(grid.spacing_mm.min())
    ours = [device.step(step_mm) for _ in range(STEPS)]
    theirs = [kernels.step(step_mm) for _ in range(STEPS)]
    assert ours[-1] > ours[0] + 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert voxels_apart(kernels, device) < ALIKE
    assert device.similarity() == pytest.approx(kernels.similarity(), abs=1e-4)
    assert device.similarity_of(start) == pytest.approx(ours[0], abs=1e-6)
    assert device.similarity_of(device.field) == pytest.approx(device.similarity(), abs=1e-6)


def test_one_step_is_the_same_to_the_last_digits(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid(*CASES["coarse slices, left-handed"])
    pair, start = pair_on(grid, rng, masked=True), start_on(grid)
    levels = Level(pair, start), DeviceLevel(pair, start, provider="cpu")
    assert levels[1].step(0.6) == pytest.approx(levels[0].step(0.6), abs=1e-6)
    assert 0 < voxels_apart(*levels) < 1e-5


def test_what_is_alike_already_or_has_no_contrast_stays_where_it_is(
    make_grid: Callable[..., Grid],
) -> None:
    grid = make_grid("oblique", (20, 18, 22), (1.0, 1.0, 1.0))
    flat = Volume(np.full(grid.shape, 3, np.float32), grid)
    start = start_on(grid)
    level = DeviceLevel(LevelPair(flat, flat, Affine.identity()), start, provider="cpu")
    before = level.field.along_mm.copy()
    assert level.step(1.0) == 0
    np.testing.assert_array_equal(level.field.along_mm, before)


def test_comparing_another_field_does_not_move_the_level(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid(*CASES["oblique"])
    level = DeviceLevel(pair_on(grid, rng, masked=False), start_on(grid), provider="cpu")
    level.step(0.5)
    before, similarity = level.field.along_mm.copy(), level.similarity()
    nothing = LatticeField(np.zeros((3, *grid.shape), np.float32), grid)
    assert level.similarity_of(nothing) != similarity
    assert level.similarity() == similarity
    np.testing.assert_array_equal(level.field.along_mm, before)


def test_nothing_in_a_step_is_shape_arithmetic() -> None:
    """All of it can run on a GPU, and on one provider; shapes are at most taken from others."""
    onnx = pytest.importorskip("onnx")
    nodes = onnx.load(GRAPH).graph.node
    assert not {node.op_type for node in nodes} & {"Size", "Range", "Loop", "If"}
    shapes = {node.output[0] for node in nodes if node.op_type == "Shape"}
    assert shapes
    for node in nodes:
        if shapes & set(node.input):
            assert node.op_type == "Reshape"
            assert node.input[0] not in shapes


def test_the_graph_is_what_its_maker_makes() -> None:
    onnx = pytest.importorskip("onnx")
    from trainer.refinement_step import made

    ours, theirs = onnx.load_from_string(made()), onnx.load(GRAPH)
    ours.ir_version = theirs.ir_version  # the one thing that is of the version of onnx
    assert ours == theirs


def test_a_gpu_that_is_not_there_is_no_cpu(
    make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is installed here")
    grid = make_grid(*CASES["oblique"])
    with pytest.raises(ProviderUnavailableError):
        DeviceLevel(pair_on(grid, rng, masked=False), start_on(grid))


@pytest.mark.parametrize("contrast", ["same", "another"])
def test_refinement_takes_it_through_all_its_levels(
    contrast: str, make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid("oblique", (44, 40, 48), (1.0, 1.2, 0.9))
    pair = pair_on(grid, rng, masked=True)
    moving = pair.moving if contrast == "same" else pair.moving.with_data(abs(pair.moving.data))
    ours, theirs = (
        refine(
            pair.fixed,
            moving,
            pair.affine,
            DisplacementField.zero(grid),
            effort="fast",
            fixed_mask=pair.fixed_mask,
            make_level=make_level,
        )
        for make_level in (partial(DeviceLevel, provider="cpu"), Level)
    )
    assert float(np.abs(ours.vectors_mm).max()) > 0.5
    apart_mm = np.abs(ours.vectors_mm - theirs.vectors_mm).max()
    assert apart_mm < ALIKE * float(grid.spacing_mm.min())


REAL = {
    "brain": ("brain_malf35/1000_SS.nii.gz", "brain_malf35/1001_SS.nii.gz"),
    "lung": (
        "lung_ct_elastix/3DCT_lung_baseline_small.mha",
        "lung_ct_elastix/followup_reconstructed.nii.gz",
    ),
}


def middle(volume: Volume, voxels: int = 128) -> Volume:
    """So many voxels along each axis."""
    size = np.array(volume.grid.shape)
    before = (size - voxels) // 2
    inside = tuple(slice(n, n + voxels) for n in before)
    return Volume(
        np.ascontiguousarray(volume.data[inside]),
        grown(volume.grid, -before, before + voxels - size),
    )


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "effort"),
    [
        ("brain", "fast"),
        ("lung", "fast"),
        ("lung", "best"),
        ("brain", "best"),
    ],
)
def test_real_pairs_are_refined_alike(name: str, effort: Refine, shared_data: Path) -> None:
    """Within a hundredth of a voxel, but for a number in a million.

    Under `best` for one in a thousand: the lung's border, and brains whose border was cut off, move
    by more where the images change in their last digits. Whole brains take minutes there.
    """
    fixed, moving = (
        read_volume(shared_data / file, Limits(), "fixed").as_float32() for file in REAL[name]
    )
    if (name, effort) == ("brain", "best"):
        fixed, moving = middle(fixed), middle(moving)
    affine = initialise(fixed, moving, "affine")
    spacings = level_spacings(fixed.grid, plan_for(effort))
    levels = fixed_levels(fixed, spacings), moving_levels(moving, spacings)
    pairs = [LevelPair(f, m, affine) for f, m in zip(*levels, strict=True)]
    start = DisplacementField.zero(fixed.grid)
    ours, theirs = (
        climb(
            Levels(pairs, spacings, LevelPair(fixed, moving, affine)),
            start,
            plan=plan_for(effort),
            make_level=make_level,
        )
        for make_level in (partial(DeviceLevel, provider="cpu"), Level)
    )
    assert ours.steps == theirs.steps
    assert ours.after == pytest.approx(theirs.after, abs=1e-4)
    assert ours.after > ours.before + 0.1
    apart = np.abs(ours.field.vectors_mm - theirs.field.vectors_mm) / spacings[-1]
    assert (apart > ALIKE).mean() <= (1e-3 if (name, effort) == ("lung", "best") else 1e-5)


def engine_on(provider: str, *, cuda_graphs: bool = False) -> Engine:
    engine: Engine = object.__new__(Engine)
    engine.__dict__.update(provider=provider, cuda_graphs=cuda_graphs)
    return engine


def test_refinement_is_on_a_gpu_where_the_network_is() -> None:
    for asked in (False, True):
        made = level_for(engine_on("cuda", cuda_graphs=asked))
        assert isinstance(made, partial)
        assert (made.func, made.keywords) == (
            DeviceLevel,
            {"provider": "cuda", "captured_voxels": CAPTURED_VOXELS if asked else 0},
        )
    assert level_for(engine_on("cpu")) is level_for(engine_on("openvino")) is Level
