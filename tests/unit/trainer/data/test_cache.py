"""Prepared arrays are kept whole or not at all, on disk and in bounded memory."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from trainer.config.data import CacheConfig, DataConfig, GridConfig
from trainer.data import cache as cache_module
from trainer.data.cache import DiskCache, MemoryCache, digest
from trainer.data.dataset import open_acquired


def test_arrays_are_made_once_and_read_back_as_they_were(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"data": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)), "more": np.eye(2)}

    for _ in range(2):
        arrays = DiskCache(tmp_path / "cache").arrays(digest("a", 1), make)
        np.testing.assert_array_equal(arrays["data"], np.arange(24.0).reshape(2, 3, 4))
        assert arrays["data"].flags.writeable
        arrays["data"][0] = -1  # reaches no file
    assert len(made) == 1


def test_threads_that_make_the_same_get_the_same(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda _: cache.arrays("ab12", lambda: {"x": np.ones(1000)}), range(32))
        )
    assert all(float(arrays["x"].sum()) == 1000 for arrays in found)
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["ab12"]


def test_on_a_full_disk_nothing_is_kept_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.np, "save", full)
    arrays = DiskCache(tmp_path).arrays("ab12", lambda: {"x": np.ones(3)})
    assert float(arrays["x"].sum()) == 3
    assert not list((tmp_path / "ab").iterdir())


def test_memory_holds_the_latest_that_fit() -> None:
    made: list[str] = []

    def value(key: str, size: int = 10) -> np.ndarray:
        def make() -> np.ndarray:
            made.append(key)
            return np.zeros(size, np.uint8)

        return memory.value(key, make)

    memory: MemoryCache[np.ndarray] = MemoryCache(25, lambda array: array.nbytes)
    for key in ("a", "b", "a", "c", "a", "b"):
        value(key)
    assert made == ["a", "b", "c", "b"]
    value("large", 100)
    value("large", 100)
    assert made[-2:] == ["large", "large"]
    value("b")
    assert made[-1] == "large"


def test_a_changed_file_is_prepared_again(paired_folder: Path, tmp_path: Path) -> None:
    config = DataConfig(
        root=str(paired_folder),
        grid=GridConfig(spacing_mm=3.0),
        cache=CacheConfig(memory_mib=0),
    )

    def first() -> np.ndarray:
        dataset = open_acquired(config, "train", multiple=4, cache=tmp_path / "cache", seed=0)
        ref = min(dataset.pairs(0), key=lambda ref: ref.name)
        return np.asarray(dataset.load(ref, np.random.default_rng(0)).fixed)

    before = first()
    folder = paired_folder / "train/fixed_images"
    (folder / "a.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes())
    os.utime(folder / "a.nii.gz", ns=(1, 1))
    assert not np.array_equal(first(), before)
