"""Matching scores against a loop over cells and displacements."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.networks.correlation import Tiling, band, matching_score, window  # noqa: E402


@pytest.mark.parametrize("shape", [(5, 4, 7), (2, 2, 2), (1, 3, 6)])
@pytest.mark.parametrize("radius", [1, 2])
def test_every_cell_is_compared_with_every_displacement(
    shape: tuple[int, int, int], radius: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    fixed = torch.rand(3, *shape, generator=generator)
    moving = torch.rand(3, *shape, generator=generator)
    tiling = Tiling(shape)
    rows = matching_score(fixed, moving, tiling, radius, band(radius))
    score = tiling.join(rows).numpy()
    steps = window(radius).numpy().astype(int)
    assert score.shape == (len(steps), *shape)
    for cell in np.ndindex(*shape):
        for n, step in enumerate(steps):
            there = tuple(np.clip(np.array(cell) + step, 0, np.array(shape) - 1))
            here = fixed[(slice(None), *cell)]
            apart = ((moving[(slice(None), *there)] - here) ** 2).sum()
            expected = float((here**2).sum() - apart)
            assert score[(n, *cell)] == pytest.approx(expected, abs=1e-5)


def test_cutting_into_tiles_and_joining_gives_the_cells_back() -> None:
    cells = torch.rand(2, 5, 3, 8)
    tiling = Tiling((5, 3, 8))
    assert torch.equal(tiling.join(tiling.cut(cells).reshape(-1, 2)), cells)
