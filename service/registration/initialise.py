"""Where to start: an affine that brings two volumes together, found without any hint.

Candidates (the headers as they are, fields of view centred, centres of mass, each with a coarse
set of rotations) are scored by local correlation at about thirty voxels across; the best few are
improved by Gauss-Newton steps as rigid motions; the best of those goes on as an affine on
finer levels. Squared correlation in small windows asks for the same structure, not for the same
intensities, so contrasts may differ or be inverted. Where they differ in more than sign, an affine
that begins on the middle level is found as well, and the better of both is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from service.registration.contrast import Samples
from service.registration.descent import LatticeField, LevelPair
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.kernels.affinefit import MARGIN, evaluate
from service.registration.options import Initialise
from service.registration.progress import Watch, unwatched
from service.registration.scouted import LEVELS, Planes, Scouted
from service.registration.volume import Volume

STEPS = (12, 6, 2)  # most Gauss-Newton steps on each level
KEPT = 5  # candidates that are improved
SCALE_LIMITS = (0.5, 2.0)
ANGLES_DEG = (-30.0, 0.0, 30.0)
# Levels, and what is improved there, of a second way between contrasts: coarse copies mislead an
# affine, by a fifth in scale, where they do not yet mislead a rigid motion.
RIGID_FOR_LONGER: tuple[tuple[int, Initialise], ...] = ((1, "rigid"), (1, "affine"), (2, "affine"))
GAIN = 1e-4  # relative; a smaller one ends a level
SAME_PLACE_VOXELS = 0.5  # candidates whose corners are nearer than that have become one
LARGEST_TURN = np.pi  # of one step, radians; unrelated images ask for more, up to overflow


def initialise(
    fixed: Volume,
    moving: Volume,
    how: Initialise,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    watch: Watch = unwatched,
) -> Affine:
    """The world affine, fixed to moving, that aligns the pair as far as `how` says.

    Args:
        fixed: Any contrast, grid and field of view.
        moving: The same.
        how: `none` trusts the headers, `centre` matches the fields of view, `moments` the centres
            of mass; `rigid` and `affine` search. An affine's scales stay in [0.5, 2], and no
            answer mirrors. A volume without contrast gives what the headers say. Two single slices
            (one voxel along k) are turned and stretched in their plane only.
        fixed_mask: Where the fixed volume counts, on any grid; 1 inside.
        moving_mask: The same for the moving volume.
        watch: Told the stage and the fraction; may raise.
    """
    return initialise_scouted(Scouted(fixed, fixed_mask), Scouted(moving, moving_mask), how, watch)


def initialise_scouted(
    fixed: Scouted, moving: Scouted, how: Initialise, watch: Watch = unwatched
) -> Affine:
    """As `initialise`, of images that may have been looked at before."""
    if how == "none":
        return Affine.identity()
    if how == "centre":
        return _shift(fixed.grid.centre_mm, moving.grid.centre_mm)
    if not (fixed.has_contrast and moving.has_contrast):
        return Affine.identity()
    if how == "moments":
        return _shift(fixed.centre_of_mass_mm, moving.centre_of_mass_mm)
    watch("initialise", 0.1)
    return _search(fixed, moving, how, watch)


def nudge(
    fixed: Scouted, moving: Scouted, start: Affine, how: Initialise, steps: Sequence[int]
) -> Affine:
    """A start made a little better where it is: no search, only steps of `how`.

    Args:
        fixed: Where the affine begins.
        moving: Where it leads.
        start: Nearly right already.
        how: `rigid` or `affine`; another gives the start back. Steps of a rigid motion keep the
            start's scales.
        steps: Most Gauss-Newton steps on each level, coarse first.
    """
    if how not in _GENERATORS or not (fixed.has_contrast and moving.has_contrast):
        return start
    return nudged(fixed, moving, start, how, steps)[0]


def nudged(
    fixed: Scouted, moving: Scouted, start: Affine, how: Initialise, steps: Sequence[int]
) -> tuple[Affine, float]:
    """As `nudge`, of images with contrast, and the likeness that it ends with on the last level."""
    matrix, alike = start.matrix, np.zeros(1)
    for level, most in enumerate(steps):
        (matrix,), alike = _improve(_Stage.of(fixed, moving, level), [matrix], how, most)
    return Affine(matrix), float(alike[0])


def likeness(fixed: Scouted, moving: Scouted, level: int, affines: Sequence[Affine]) -> np.ndarray:
    """The mean local correlation under each affine, 0 to 1, on one level; mirrors are welcome."""
    stage = _Stage.of(fixed, moving, level)
    return stage.scores([affine.matrix for affine in affines])


def _shift(fixed_mm: np.ndarray, moving_mm: np.ndarray) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = moving_mm - fixed_mm
    return Affine(matrix)


@cache
def _rotations() -> tuple[np.ndarray, ...]:
    """Every combination of the angles about the three world axes, but for no rotation."""
    angles = np.deg2rad(ANGLES_DEG)
    return tuple(
        _rotation(np.array([0, 0, c]))
        @ _rotation(np.array([0, b, 0]))
        @ _rotation(np.array([a, 0, 0]))
        for a in angles
        for b in angles
        for c in angles
        if a or b or c
    )


def _rotations_in(plane: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same angles, in the plane of a slice."""
    normal = np.cross(plane[:, 0], plane[:, 1])
    return tuple(_rotation(angle * normal) for angle in np.deg2rad(ANGLES_DEG) if angle)


def _plane_of(fixed: Grid, moving: Grid) -> np.ndarray | None:
    """The directions of two single slices, i and j in their plane; None of volumes."""
    return fixed.directions if fixed.shape[2] == moving.shape[2] == 1 else None


def _rotation(vector: np.ndarray) -> np.ndarray:
    """The rotation about an axis by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn: np.ndarray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn


def _candidates(fixed: Scouted, moving: Scouted) -> list[np.ndarray]:
    """World matrices to try; the first three are always improved: headers, centres, masses."""
    masses = fixed.centre_of_mass_mm, moving.centre_of_mass_mm
    centres = fixed.grid.centre_mm, moving.grid.centre_mm
    plain = [np.eye(4), _about(np.eye(3), *centres), _about(np.eye(3), *masses)]
    plane = _plane_of(fixed.grid, moving.grid)
    turns = _rotations() if plane is None else _rotations_in(plane)
    turned = [_about(turn, *pair) for turn in turns for pair in (masses, centres)]
    return plain + turned


def _about(linear: np.ndarray, fixed_mm: np.ndarray, moving_mm: np.ndarray) -> np.ndarray:
    """x goes to linear (x - fixed_mm) + moving_mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = moving_mm - linear @ fixed_mm
    return matrix


@dataclass(frozen=True)
class _Stage:
    """The pair on one level, ready for the kernel."""

    fixed: np.ndarray
    mask: np.ndarray
    counted: float  # voxels in the mask
    moving: Planes
    from_padded: np.ndarray  # padded fixed voxel to fixed world
    to_moving: np.ndarray  # moving world to moving voxel
    centre_mm: np.ndarray
    nk: int
    plane: np.ndarray | None  # directions of single slices, as columns

    @classmethod
    def of(cls, fixed: Scouted, moving: Scouted, level: int) -> "_Stage":
        grid = fixed.levels[level].grid
        to_world = grid.affine.copy()
        to_world[:3, 3] = grid.to_world(np.full(3, -float(MARGIN)))
        return cls(
            *fixed.as_fixed(level),
            moving.as_moving(level),
            to_world,
            moving.levels[level].grid.inverse_affine,
            grid.centre_mm,
            grid.shape[2] + 2 * MARGIN,
            _plane_of(grid, moving.levels[level].grid),
        )

    def scores(self, affines: Sequence[np.ndarray]) -> np.ndarray:
        """The mean local correlation of every candidate."""
        return self._run(affines, np.empty((0, 12, 13)))

    def normals(self, affines: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Scores, and the normal equations (n, 12, 13) of a change of the padded voxel index."""
        out = np.empty((len(affines), 12, 13))
        return self._run(affines, out), out

    def _run(self, affines: Sequence[np.ndarray], normals: np.ndarray) -> np.ndarray:
        matrices = np.stack([self.to_moving @ affine @ self.from_padded for affine in affines])
        matrices = np.ascontiguousarray(matrices[:, :3])
        scores: np.ndarray = evaluate(
            self.fixed, self.mask, self.moving, matrices, self.nk, normals, counted=self.counted
        )
        return scores

    def corners(self, affines: Sequence[np.ndarray]) -> np.ndarray:
        """Where each affine takes the corners of the fixed level: (n, 8, 3), moving voxels."""
        size = len(self.fixed), self.fixed.shape[1] // self.nk, self.nk
        ends = np.array([(*corner, 1.0) for corner in product(*((0.0, n - 1.0) for n in size))])
        matrices = np.stack([self.to_moving @ affine @ self.from_padded for affine in affines])
        places: np.ndarray = ends @ matrices[:, :3].transpose(0, 2, 1)
        return places

    def generators(self, how: Initialise) -> np.ndarray:
        """(n, 4, 4) world motions about the centre, linear parts scaled to move about a voxel."""
        world = _GENERATORS[how].copy()
        if self.plane is not None:
            there = np.eye(4)
            there[:3, :3] = self.plane
            world = there @ _IN_PLANE[how] @ there.T
        world[:, :3, 3] -= np.einsum("nij,j->ni", world[:, :3, :3], self.centre_mm)
        return world

    def in_voxels(self, generators: np.ndarray) -> np.ndarray:
        """(12, n): the same motions as changes D of the padded voxel index, row by row."""
        inverse = np.linalg.inv(self.from_padded)
        return np.stack([(inverse @ g @ self.from_padded)[:3].ravel() for g in generators], axis=1)


def _unit(row: int, column: int) -> np.ndarray:
    matrix = np.zeros((4, 4))
    matrix[row, column] = 1.0
    return matrix


_TURNS = [_unit(2, 1) - _unit(1, 2), _unit(0, 2) - _unit(2, 0), _unit(1, 0) - _unit(0, 1)]
_SHIFTS = [_unit(row, 3) for row in range(3)]
_GENERATORS = {
    "rigid": np.stack(_TURNS + _SHIFTS),
    "affine": np.stack([_unit(row, column) for row in range(3) for column in range(4)]),
}

_IN_PLANE = {
    "rigid": np.stack([_TURNS[2], *_SHIFTS[:2]]),
    "affine": np.stack([_unit(row, column) for row in range(2) for column in (0, 1, 3)]),
}


def _search(fixed: Scouted, moving: Scouted, how: Initialise, watch: Watch) -> Affine:
    """Score the candidates, improve the best as rigid motions, then the very best as `how`."""
    stages = [_Stage.of(fixed, moving, level) for level in range(LEVELS)]
    candidates = _candidates(fixed, moving)
    first = stages[0]
    scores = first.scores(candidates)
    order = np.argsort(-scores, kind="stable")[:KEPT]
    kept = [candidates[n] for n in sorted({0, 1, 2, *order.tolist()})]
    watch("initialise", 0.3)
    improved, scores = _improve(first, kept, "rigid", STEPS[0])
    best = improved[int(np.argmax(scores))]
    ends = [_climb(stages, best, [(level, how) for level in range(LEVELS)], watch)]
    if how == "affine" and contrasts_differ(fixed, moving, Affine(best)):
        ends.append(_climb(stages, best, RIGID_FOR_LONGER, watch))
    return Affine(max(ends, key=lambda end: end[1])[0])


def _climb(
    stages: list[_Stage],
    start: np.ndarray,
    way: Sequence[tuple[int, Initialise]],
    watch: Watch,
) -> tuple[np.ndarray, float]:
    """Improved on each level of the way as it says; the last score with it."""
    best, score = start, 0.0
    for number, (level, how) in enumerate(way):
        watch("initialise", 0.4 + 0.2 * number)
        (best,), scores = _improve(stages[level], [best], how, STEPS[level])
        score = float(scores[0])
    return best, score


def contrasts_differ(fixed: Scouted, moving: Scouted, affine: Affine) -> bool:
    """Whether they do in more than sign, as they lie, on the coarsest level."""
    images = fixed.levels[0], moving.levels[0]
    lying = LevelPair(*images, affine, fixed.mask, moving.mask)
    still = LatticeField.of(DisplacementField.zero(images[0].grid), images[0].grid)
    return Samples.of(lying, still).contrasts_differ


def _improve(
    stage: _Stage, affines: list[np.ndarray], how: Initialise, steps: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Damped Gauss-Newton steps on each affine; a step that lowers the score is taken back.

    One that gains no more rests, and so does one that has come to where a better one is.
    """
    generators = stage.generators(how)
    basis = stage.in_voxels(generators)
    best, (scores, normals) = list(affines), stage.normals(affines)
    damping, climbing = np.full(len(best), 1e-2), np.arange(len(best))
    for left in reversed(range(steps)):
        tried = [
            _moved(best[n], generators, basis, normals[n], float(damping[n])) for n in climbing
        ]
        # No step follows the last one, so nobody asks for its normal equations.
        found = stage.normals(tried) if left else (stage.scores(tried), normals[climbing])
        better, gained = found[0] > scores[climbing], found[0] > scores[climbing] * (1 + GAIN)
        damping[climbing] *= np.where(better, 1 / 4, 8)
        for place in np.flatnonzero(better):
            n = climbing[place]
            best[n], scores[n], normals[n] = tried[place], found[0][place], found[1][place]
        climbing = climbing[gained | (damping[climbing] <= 1.0)]
        climbing = _apart(stage, best, scores, climbing)
        if not len(climbing):
            break
    return best, scores


def _apart(
    stage: _Stage, affines: list[np.ndarray], scores: np.ndarray, some: np.ndarray
) -> np.ndarray:
    """Of some affines those that no better one lies next to."""
    if len(affines) == 1:
        return some
    corners = stage.corners(affines)
    kept = []
    for n in some:
        near = np.linalg.norm(corners - corners[n], axis=-1).max(axis=-1) < SAME_PLACE_VOXELS
        near[n] = False
        if not (scores[near] >= scores[n]).any():
            kept.append(n)
    return np.array(kept, dtype=int)


def _moved(
    affine: np.ndarray,
    generators: np.ndarray,
    basis: np.ndarray,
    normal: np.ndarray,
    damping: float,
) -> np.ndarray:
    """The affine after one step; the affine itself when the step leaves what is allowed."""
    left = basis.T @ normal[:, :12] @ basis
    right = basis.T @ normal[:, 12]
    diagonal = left.diagonal().copy()
    left.flat[:: len(left) + 1] += damping * diagonal + 1e-9 * (diagonal.sum() + 1e-30)
    step = (np.linalg.solve(left, right) @ generators.reshape(-1, 16)).reshape(4, 4)
    if not np.abs(step[:3, :3]).max() <= LARGEST_TURN:  # nan, too
        return affine
    moved = affine @ _exponential(step)
    scales = np.linalg.svd(moved[:3, :3], compute_uv=False)
    allowed = scales[-1] >= SCALE_LIMITS[0] and scales[0] <= SCALE_LIMITS[1]
    return moved if allowed and np.linalg.det(moved[:3, :3]) > 0 else affine


def _exponential(step: np.ndarray) -> np.ndarray:
    """The matrix exponential by squaring; of a rigid generator it is exactly a rigid motion."""
    scaled = step / 64
    power, total = np.eye(4), np.eye(4)
    for n in range(1, 9):
        power = power @ scaled / n
        total = total + power
    for _ in range(6):
        total = total @ total
    return total
