"""Many to one: the fixed image is read and prepared once, and nothing else changes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from service.registration import kept_fixed
from service.registration.files.limits import Limits
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.kept_fixed import KeptFixed
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pair import read_pair
from service.registration.pipeline import register_files
from tests.phantoms import phantom_pair

OPTIONS = RegisterOptions(refine="fast", initialise="rigid")
SAME = ("warped.nii.gz", "ddf.nii.gz", "inverse_ddf.nii.gz", "affine.txt", "overlay.png")


@pytest.fixture(scope="module")
def models() -> ModelFolder:
    return ModelFolder(provider="cpu", is_late=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    grid = Grid((30, 28, 26), np.diag([3.0, 3.0, 3.0, 1.0]))
    made = phantom_pair(grid, grid, most_mm=5.0)
    parts = {
        "fixed": made.fixed,
        "fixed_labels": made.fixed_labels,
        "moving": made.moving,
        "moving_labels": made.moving_labels,
        "other": phantom_pair(grid, grid, most_mm=2.0).moving,
    }
    for name, volume in parts.items():
        write_volume(folder / f"{name}.nii.gz", volume)
    return {name: folder / f"{name}.nii.gz" for name in parts}


def of(files: dict[str, Path], moving: str = "moving") -> dict[str, Path]:
    pair = {role: files[role] for role in ("fixed", "fixed_labels", "moving_labels")}
    return pair | {"moving": files[moving]}


def test_the_second_pair_gives_the_bytes_that_it_gives_alone(
    files: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    kept = KeptFixed()
    alone = register_files(of(files, "other"), OPTIONS, tmp_path / "alone", models)
    register_files(of(files), OPTIONS, tmp_path / "first", models, kept=kept)
    second = register_files(of(files, "other"), OPTIONS, tmp_path / "second", models, kept=kept)
    for name in SAME:
        got, wanted = (tmp_path / folder / name for folder in ("second", "alone"))
        assert got.read_bytes() == wanted.read_bytes(), name
    assert second.metrics == alone.metrics
    assert second.provenance == alone.provenance


def test_the_same_bytes_are_read_once_wherever_they_lie(
    files: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    kept, limits = KeptFixed(), Limits()
    first = kept.known(of(files), OPTIONS, limits)
    moved = of(files) | {"fixed": tmp_path / "copy.nii.gz"}
    shutil.copy(files["fixed"], moved["fixed"])
    again = kept.known(moved, OPTIONS, limits)
    assert again["fixed"] is first["fixed"]
    pair = read_pair(moved, OPTIONS, limits, [], known=again)
    engine = models.load("discrete")
    prepared = kept.prepared(pair, OPTIONS, engine)
    assert kept.prepared(pair, OPTIONS, engine) is prepared
    finer = OPTIONS.model_copy(update={"refine": "best"})
    assert kept.prepared(pair, finer, engine) is not prepared


def test_another_image_or_no_labels_are_read_anew(files: dict[str, Path]) -> None:
    kept, limits = KeptFixed(), Limits()
    first = kept.known(of(files), OPTIONS, limits)
    other = kept.known(of(files) | {"fixed": files["other"]}, OPTIONS, limits)
    assert other["fixed"] is not first["fixed"]
    bare = kept.known({"fixed": files["other"]}, OPTIONS, limits)
    assert set(bare) == {"fixed"}
    assert kept.known({"moving": files["moving"]}, OPTIONS, limits) == {}


def test_large_images_are_not_kept(
    files: dict[str, Path], models: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_fixed, "MOST_KEPT_VOXELS", 10)
    kept, limits = KeptFixed(), Limits()
    first = kept.known(of(files), OPTIONS, limits)
    pair = read_pair(of(files), OPTIONS, limits, [], known=first)
    kept.prepared(pair, OPTIONS, models.load("discrete"))
    assert kept.known(of(files), OPTIONS, limits)["fixed"] is not first["fixed"]
