"""A few absurd voxels, and values at the ends of a type, do not decide a registration."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_volume, write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions, WarpOptions
from service.registration.pipeline import register_files
from service.registration.report import Report
from service.registration.tempering import Tempering, tempered
from service.registration.volume import Volume
from tests.phantoms import PhantomPair, phantom_pair

GRID = Grid((30, 26, 22), np.diag([2.0, 2.1, 2.3, 1.0]))
TOP = float(np.finfo(np.float32).max)


def image(values: np.ndarray) -> Volume:
    return Volume(values, GRID)


def noise(low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(4).uniform(low, high, GRID.shape).astype(np.float32)


@pytest.mark.parametrize("values", [noise(), noise(-1000, 2000), 1e-3 * noise(), 1e6 * noise()])
def test_ordinary_values_stay_as_they_are(values: np.ndarray) -> None:
    values = values.astype(np.float32)
    assert tempered(image(values)).data is values


def test_a_metal_implant_stays(phantom: PhantomPair) -> None:
    values = np.array(phantom.fixed.data, np.float32)
    values[20:23, 20:23, 20:23] = 8 * values.max()
    assert tempered(Volume(values, phantom.fixed.grid)).data is values


@pytest.mark.parametrize("spike", [1e4, -1e4, 1e20, -TOP])
def test_a_few_spikes_are_cut_off_and_no_other_voxel_changes(spike: float) -> None:
    values = noise()
    values[3, 4, 5:10] = spike
    before = values.copy()
    tempering = Tempering.of(image(values))
    seen = tempering.apply(image(values)).data
    assert tempering.cuts
    np.testing.assert_array_equal(values, before)
    assert seen.min() > -11
    assert seen.max() < 12
    is_spike = values == np.float32(spike)
    np.testing.assert_array_equal(seen[~is_spike], values[~is_spike])
    assert len(np.unique(seen[is_spike])) == 1


def test_what_is_bright_in_an_otherwise_empty_image_is_the_image() -> None:
    values = np.zeros(GRID.shape, np.float32)
    values[10:12, 10:12, 10:12] = 1000
    assert tempered(image(values)).data is values


@pytest.mark.parametrize(
    ("scale", "shift", "dtype"),
    [
        (2 * TOP, -TOP, np.float32),
        (1e25, 0, np.float32),
        (1e-30, 0, np.float32),
        (1e-40, 0, np.float32),
        (1, 1e5, np.float64),
        (1000, 2**31 - 1001, np.int32),
        (1000, -(2**31), np.int32),
    ],
)
def test_values_at_the_ends_of_a_type_are_brought_to_0_to_1(
    scale: float, shift: float, dtype: type
) -> None:
    plain = noise().astype(np.float64)
    plain.ravel()[:2] = 0, 1
    seen = tempered(image((plain * scale + shift).astype(dtype)))
    assert seen.data.dtype == np.float32
    np.testing.assert_allclose(seen.data, plain, atol=2e-3)


def test_what_is_warped_is_looked_at_as_its_image_is() -> None:
    values = noise() * np.float32(1e-30)
    tempering = Tempering.of(image(values))
    filled = values.copy()
    filled[0] = 0  # outside
    seen = tempering.apply(image(filled)).data
    np.testing.assert_allclose(seen[1:], tempering.apply(image(values)).data[1:], atol=1e-6)
    assert seen[0].max() == 0


@pytest.mark.parametrize("spike", [None, 1e20])
@pytest.mark.parametrize("fill", [0.25, -1e4, TOP])
def test_what_is_linear_between_own_values_is_as_ordinary_as_they_are(
    fill: float, spike: float | None
) -> None:
    values = noise()
    if spike is not None:
        values[3, 4, 5:10] = spike
    tempering = Tempering.of(image(values))
    pulled = values.copy()
    pulled[:2] = fill
    seen = tempering.apply_to_own(image(pulled), fill)
    np.testing.assert_array_equal(seen.data, tempering.apply(image(pulled)).data)


@pytest.fixture(scope="module")
def models() -> ModelFolder:
    return ModelFolder(provider="cpu")


@pytest.fixture(scope="module")
def phantom() -> PhantomPair:
    fixed = Grid((44, 40, 36), np.diag([-2.0, 2.0, 2.5, 1.0]))
    return phantom_pair(fixed, Grid((44, 40, 36), fixed.affine.copy()), most_mm=5.0)


def register(fixed: Volume, moving: Volume, models: ModelFolder, folder: Path) -> Report:
    files = {"fixed": folder / "fixed.nii", "moving": folder / "moving.nii"}
    write_volume(files["fixed"], fixed)
    write_volume(files["moving"], moving)
    return register_files(files, RegisterOptions(refine="fast"), folder / "result", models)


def spiked(volume: Volume, spike: float) -> Volume:
    values = np.array(volume.data, np.float32)
    values.ravel()[np.random.default_rng(5).choice(values.size, 5, replace=False)] = spike
    return volume.with_data(values)


def scaled(volume: Volume, scale: float) -> Volume:
    values = np.asarray(volume.data, np.float64)
    return volume.with_data((scale * (values / values.max())).astype(np.float32))


@pytest.mark.parametrize("spike", [1e6, 1e30, -TOP])
def test_five_absurd_voxels_cost_a_registration_next_to_nothing(
    spike: float, phantom: PhantomPair, models: ModelFolder, tmp_path: Path
) -> None:
    moving = spiked(phantom.moving, spike)
    report = register(phantom.fixed, moving, models, tmp_path)
    assert report.verdict.status == "pass"
    assert report.metrics.lncc_after is not None
    assert report.metrics.lncc_after > 0.6
    assert [w for w in report.warnings if w.startswith("moving: A few voxels")]
    warped = read_volume(tmp_path / "result" / "warped.nii.gz", Limits()).data
    assert abs(warped).max() > 0.1 * abs(spike)  # delivered as it was sent


@pytest.mark.parametrize("scale", [TOP, 1e-38])
def test_an_image_at_the_end_of_its_type_is_registered_as_any(
    scale: float, phantom: PhantomPair, models: ModelFolder, tmp_path: Path
) -> None:
    fixed, moving = scaled(phantom.fixed, scale), scaled(phantom.moving, scale)
    report = register(fixed, moving, models, tmp_path)
    assert report.verdict.status == "pass"
    assert report.metrics.lncc_after is not None
    assert report.metrics.lncc_after > 0.6
    assert not report.warnings


@pytest.mark.parametrize("fill", [1e39, -1e300])
def test_a_fill_that_no_image_can_hold_is_refused(fill: float) -> None:
    with pytest.raises(ValidationError):
        WarpOptions(fill=fill)
    assert WarpOptions(fill=-1024.0).fill == -1024.0
