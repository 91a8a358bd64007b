"""Pairs that are changed on purpose: grey values, and a known field."""

import numpy as np
import pytest

from benchmarks.accuracy_cases import LARGEST_MM, REMAPS, Case, known_field, remapped, undoing
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.regularity import regularity
from service.registration.volume import Volume

GRID = Grid((40, 44, 12), np.diag([-1.5, 1.5, 5.0, 1.0]))


def test_grey_values_are_changed_and_nothing_else(rng: np.random.Generator) -> None:
    image = Volume(rng.gamma(2.0, 100.0, GRID.shape).astype(np.int16), GRID)
    case = Case("pair", image, image, lambda _affine, _field: 0.0)
    for how in REMAPS:
        changed = remapped(case, how)
        assert changed.fixed is image
        assert changed.moving.grid == image.grid
        assert 0 <= changed.moving.data.min() < changed.moving.data.max() <= 1000


def test_a_t2_leaves_the_outside_dark_and_a_wave_turns_thrice() -> None:
    x = np.linspace(0, 1, 101)
    t2 = REMAPS["t2"](x)
    assert t2[0] == 0
    assert (np.diff(t2[10:]) < 0).all()
    turns = np.flatnonzero(np.diff(np.sign(np.diff(REMAPS["sine"](x)))))
    assert len(turns) == 3  # up, down, up, down: one and a half waves
    np.testing.assert_allclose(REMAPS["inverted"](x), x[::-1])


def test_a_known_field_is_as_long_as_told_smooth_and_always_the_same() -> None:
    first, again, other = (known_field(GRID, seed) for seed in (1, 1, 2))
    assert np.linalg.norm(first.vectors_mm, axis=-1).max() == pytest.approx(LARGEST_MM, rel=1e-5)
    assert regularity(first).non_diffeomorphic_volume < 1e-3
    assert first.vectors_mm.tobytes() == again.vectors_mm.tobytes()
    assert not np.allclose(first.vectors_mm, other.vectors_mm)


def test_what_undoes_the_known_field_leaves_no_distance(rng: np.random.Generator) -> None:
    """Moved by 3 mm, the transform must go 3 mm the other way."""
    shift = np.array([3.0, 0, 0])
    known = DisplacementField(np.tile(shift, (*GRID.shape, 1)).astype(np.float32), GRID)
    back = DisplacementField(-known.vectors_mm, GRID)
    here = GRID.to_world(rng.uniform(8, 10, (20, 3)))
    measure = undoing(here, here, known)
    assert measure(Affine.identity(), back) == pytest.approx(0, abs=1e-5)
    assert measure(Affine.identity(), DisplacementField.zero(GRID)) == pytest.approx(3)
