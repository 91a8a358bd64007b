"""What all tests share: where the real images are, and volumes on awkward grids."""

import os
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from service.cores import usable_cores
from service.registration.grid import Grid
from tests.untraced import spare_the_long

pytest_plugins = ["tests.servers", "tests.archives"]

# Before torch is there: its threads leave their core to another process when they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A busy machine may take a quarter of a minute for one example, or for drawing it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

MOST_PROCESSES = 4  # each may take four GiB

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# Awkward on purpose: a cube hides swapped axes, and isotropic voxels hide swapped units.
SHAPE = (31, 24, 19)
SPACING_MM = (0.7, 1.3, 4.0)

DIRECTIONS = {
    "RAS": np.diag([1.0, 1.0, 1.0]),
    "LAS": np.diag([-1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "oblique": np.array(
        [[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]
    ),  # a rotation with exact entries
    "oblique-left-handed": np.array([[0.36, 0.48, 0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, -0.6]]),
}


class Length(Enum):
    """Why a file of tests takes long, if it does."""

    WAITS, COMPUTES, QUICK = range(3)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two processes a core: those that wait for servers and leases leave cores idle."""
    return min(MOST_PROCESSES, 2 * usable_cores())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the long files first, so that at the end none runs alone.

    Those that wait for servers lie evenly between those that compute: processes outnumber cores.
    """
    files = list(dict.fromkeys(item.path for item in items))
    turns = {path: turn for kind in Length for turn, path in _turns(files, kind)}
    items.sort(key=lambda item: turns[item.path])


def _turns(files: list[Path], kind: Length) -> Iterator[tuple[tuple[bool, float], Path]]:
    those = [path for path in files if _length(path) is kind]
    for place, path in enumerate(those):
        yield (kind is Length.QUICK, (place + 0.5) / len(those)), path


def _length(path: Path) -> Length:
    folder, *rest = path.relative_to(Path(__file__).parent).parts
    if folder in ("e2e", "integration"):
        return Length.WAITS
    return Length.QUICK if folder == "unit" and rest[0] != "trainer" else Length.COMPUTES


def pytest_collection_finish() -> None:
    spare_the_long()
    if build := sys.modules.get("service.stores.build"):
        from tests.migrated import copied_or

        build.migrate = copied_or(build.migrate)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout; skips where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared real images are not here")
    return SHARED_DATA


@pytest.fixture(params=sorted(DIRECTIONS))
def orientation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_grid() -> Callable[..., Grid]:
    """A grid by orientation name, shape and spacing, with an origin that is not zero."""

    def make(
        orientation: str = "RAS",
        shape: tuple[int, int, int] = SHAPE,
        spacing_mm: tuple[float, float, float] = SPACING_MM,
    ) -> Grid:
        affine = np.eye(4)
        affine[:3, :3] = DIRECTIONS[orientation] * np.array(spacing_mm)
        affine[:3, 3] = (-12.5, 7.25, 31.0)
        return Grid(shape, affine)

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240917)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("WARPLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WARPLINE_DATA_DIR", str(tmp_path / "warpline-data"))


@pytest.fixture(autouse=True)
def _one_thread_of_torch() -> None:
    """Tensors of tests are tiny: two threads, on cores that others use, take ten times as long."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
