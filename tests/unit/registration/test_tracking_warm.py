"""Following a motion: warm starts, jumps, budgets, the rigid part alone."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from service.errors import JobCancelledError
from service.registration.alignment import align, prepare
from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pair import Pair
from service.registration.prepared import PreparedFixed, PreparedMoving, PreparedPair
from service.registration.progress import StageClock
from service.registration.resample import warp
from service.registration.tracked import Reference, Role, Tracked, Wanted
from service.registration.tracking import Tracker
from service.registration.volume import Volume
from tests.phantoms import Scene

MakeGrid = Callable[..., Grid]
SHAPE, SPACING_MM = (32, 28, 24), (2.0, 2.3, 3.1)
OPTIONS = RegisterOptions()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return ModelFolder(provider="cpu").load("discrete")


@pytest.fixture
def reference(make_grid: MakeGrid) -> Volume:
    grid = make_grid("oblique-left-handed", SHAPE, SPACING_MM)
    scene = Scene(np.random.default_rng(5), grid.centre_mm, float(grid.extent_mm.min()))
    places = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Volume(scene.image(places).astype(np.float32), grid)


def moved(reference: Volume, grid: Grid, amount: float) -> tuple[Volume, Affine, DisplacementField]:
    """A frame that shows at x what the reference shows at A(x + u(x)); `amount` 1 is 5 mm."""
    places = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    u = 2.0 * amount * np.sin(places[..., [2, 0, 1]] / 17.0)
    field = DisplacementField(u.astype(np.float32), grid)
    affine = rigid(grid, 3.0 * amount, 3.0 * amount)
    return warp(reference, field, grid, affine=affine), affine, field


def rigid(grid: Grid, degrees: float, shift_mm: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees, 0], degrees=True).as_matrix()
    matrix[:3, 3] = grid.centre_mm - matrix[:3, :3] @ grid.centre_mm + shift_mm * np.eye(3)[1]
    return Affine(matrix)


def tracker(
    reference: Volume,
    engine: Engine,
    *,
    warm: bool = True,
    wanted: Wanted | None = None,
    role: Role = "moving",
    options: RegisterOptions = OPTIONS,
) -> Tracker:
    return Tracker(
        Reference(reference),
        reference.grid,
        engine,
        options,
        role=role,
        wanted=wanted or Wanted(),
        warm_start=warm,
    )


def error_mm(answer: Tracked, affine: Affine, field: DisplacementField) -> float:
    """Median distance from the truth, away from the border."""
    assert answer.field is not None
    grid = field.grid
    inner = grid.to_world(np.random.default_rng(0).uniform(0.25, 0.75, (200, 3)) * grid.shape)
    return float(
        np.median(np.linalg.norm(answer.field.move(inner) - affine.move(field.move(inner)), axis=1))
    )


@pytest.mark.parametrize("role", ["moving", "fixed"])
def test_a_slow_motion_is_followed_in_fewer_steps_as_well_as_from_nothing(
    reference: Volume, engine: Engine, role: Role
) -> None:
    warm = tracker(reference, engine, role=role)
    cold = tracker(reference, engine, role=role, warm=False)
    for number, amount in enumerate((0.6, 0.7, 0.8, 0.9, 1.0)):
        frame, affine, field = moved(reference, reference.grid, amount)
        followed = warm.step(frame)
        assert followed.is_warm == (number > 0)
        assert not any("from nothing" in warning for warning in followed.warnings)
        if number in (0, 2):
            continue
        anew = cold.step(frame)
        assert not anew.is_warm
        assert followed.steps < 0.5 * anew.steps
        assert followed.similarity_after > anew.similarity_after - 0.01
        if role == "moving":  # within a tenth of a voxel
            assert error_mm(followed, affine, field) < error_mm(anew, affine, field) + 0.5
        assert followed.verdict.status == "pass", followed.verdict.reasons


def test_a_jump_is_seen_told_and_registered_from_nothing(reference: Volume, engine: Engine) -> None:
    warm = tracker(reference, engine)
    for amount in (0.8, 0.9):
        warm.step(moved(reference, reference.grid, amount)[0])
    grid = reference.grid
    far = warp(reference, DisplacementField.zero(grid), grid, affine=rigid(grid, 25.0, 14.0))
    answer = warm.step(far)
    assert not answer.is_warm
    assert any("from nothing" in warning for warning in answer.warnings)
    again = tracker(reference, engine, warm=False).step(far)
    assert answer.field is not None
    assert again.field is not None
    np.testing.assert_array_equal(answer.field.vectors_mm, again.field.vectors_mm)


def test_a_frame_that_lies_elsewhere_is_placed_by_its_own_grid(
    reference: Volume, engine: Engine
) -> None:
    other = Grid(SHAPE, rigid(reference.grid, 7.0, 5.0).matrix @ reference.grid.affine)
    frame, affine, field = moved(reference, other, 0.5)
    warm = tracker(reference, engine)
    warm.step(moved(reference, reference.grid, 0.5)[0])
    answer = warm.step(frame)
    assert answer.field is not None
    assert answer.field.grid.is_same(other)
    assert answer.is_warm
    assert error_mm(answer, affine, field) < 0.85  # a third of a voxel


@pytest.mark.parametrize("initialise", ["model", "none"])
@pytest.mark.parametrize("warm", [True, False])
def test_the_rigid_part_alone_is_found(
    reference: Volume, engine: Engine, initialise: str, warm: bool
) -> None:
    options = RegisterOptions(initialise=initialise)
    wanted = Wanted(field="none", rigid_only=True)
    following = tracker(reference, engine, warm=warm, wanted=wanted, options=options)
    for degrees in (1.0, 2.0, 3.0):
        truth = rigid(reference.grid, degrees, degrees)
        frame = warp(
            reference, DisplacementField.zero(reference.grid), reference.grid, affine=truth
        )
        answer = following.step(frame)
        corners = reference.grid.corners_mm()
        apart = np.linalg.norm(answer.rigid.move(corners) - truth.move(corners), axis=1)
        assert apart.max() < 0.5  # at the corners, a quarter of a voxel
        linear = answer.affine.matrix[:3, :3]
        np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-9)
        assert {name for name, _ in answer.stages} == {"initialise", "warp", "measure"}
        assert answer.steps == 0
    assert answer.is_warm == warm
    assert answer.motion.shift_mm[1] == pytest.approx(3.0, abs=0.3)


def test_what_became_less_alike_for_good_is_checked_once_and_then_followed(
    reference: Volume, engine: Engine, rng: np.random.Generator
) -> None:
    following = tracker(reference, engine)
    noise = 60 * rng.standard_normal(SHAPE).astype(np.float32)
    told = []
    for amount, share in ((0.5, 0), (0.55, 0), (0.6, 1), (0.65, 1), (0.7, 1), (0.75, 1)):
        frame = moved(reference, reference.grid, amount)[0]
        answer = following.step(frame.with_data(frame.data + np.float32(share) * noise))
        told.append(any("from nothing" in warning for warning in answer.warnings))
    assert told == [False, False, True, False, False, False]


def test_without_time_a_pair_whose_fields_of_view_do_not_meet_is_centred(
    reference: Volume, engine: Engine
) -> None:
    away = reference.grid.affine.copy()
    away[:3, 3] += 1000.0
    frame = Volume(moved(reference, reference.grid, 0.5)[0].data, Grid(SHAPE, away))
    following = tracker(reference, engine, warm=False)
    following.step(frame)  # learns what it costs
    answer = following.step(frame, budget_s=1e-3)
    assert answer.is_cut_short
    assert answer.similarity_after > 0.5
    np.testing.assert_allclose(answer.motion.shift_mm, -1000.0, atol=5.0)


@pytest.mark.parametrize("warm", [True, False])
def test_with_no_time_the_answer_is_still_no_worse_than_the_start(
    reference: Volume, engine: Engine, warm: bool
) -> None:
    following = tracker(reference, engine, warm=warm)
    following.calibrate(frames=1)
    for amount in (0.8, 0.9, 1.0):
        answer = following.step(moved(reference, reference.grid, amount)[0], budget_s=1e-3)
        assert answer.is_cut_short
        assert answer.steps == 0
        assert answer.similarity_after >= answer.similarity_before
        assert "predict" not in {name for name, _ in answer.stages}


def test_with_time_enough_a_budget_changes_nothing(reference: Volume, engine: Engine) -> None:
    following = tracker(reference, engine, warm=False)
    frame = moved(reference, reference.grid, 1.0)[0]
    hurried, calm = following.step(frame, budget_s=300.0), following.step(frame)
    assert not hurried.is_cut_short
    assert hurried.field is not None
    assert calm.field is not None
    np.testing.assert_array_equal(hurried.field.vectors_mm, calm.field.vectors_mm)


def test_a_frame_that_shows_something_else_gets_a_bad_verdict(
    reference: Volume, engine: Engine, rng: np.random.Generator
) -> None:
    following = tracker(reference, engine)
    following.step(moved(reference, reference.grid, 0.5)[0])
    answer = following.step(reference.with_data(rng.random(SHAPE)))
    assert answer.verdict.status != "pass"
    assert answer.warnings
    after = following.step(moved(reference, reference.grid, 0.6)[0])
    assert after.verdict.status == "pass", after.verdict.reasons
    assert after.similarity_after > 0.8


def test_a_watcher_that_raises_ends_the_step_and_the_next_one_goes_on(
    reference: Volume, engine: Engine
) -> None:
    def watch(stage: str, _fraction: float) -> None:
        if stage == "refine":
            raise JobCancelledError

    following = tracker(reference, engine)
    frames = [moved(reference, reference.grid, amount)[0] for amount in (0.5, 0.6, 0.7)]
    following.step(frames[0])
    with pytest.raises(JobCancelledError):
        following.step(frames[1], watch=watch)
    assert following.step(frames[2]).is_warm


def test_many_to_one_gives_each_what_a_pair_alone_gives(reference: Volume, engine: Engine) -> None:
    mask = reference.with_data((reference.data > 50).astype(np.uint8))
    fixed = PreparedFixed(reference, mask, engine, OPTIONS)
    for amount in (0.5, 1.0):
        image = moved(reference, reference.grid, amount)[0]
        moving = PreparedMoving(image, mask, fixed.resolutions, Affine.identity())
        found = align(PreparedPair(fixed, moving), OPTIONS, engine, StageClock(), [])
        pair = Pair(reference, image, fixed_mask=mask, moving_mask=mask)
        alone = align(prepare(pair, OPTIONS, engine), OPTIONS, engine, StageClock(), [])
        np.testing.assert_array_equal(found.field.vectors_mm, alone.field.vectors_mm)
        np.testing.assert_array_equal(found.affine.matrix, alone.affine.matrix)
