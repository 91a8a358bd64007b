"""From stored bytes to voxel values: byte order, scaling, and values that are not finite."""

import numpy as np

from service.errors import NonFiniteVoxelsError
from service.registration.files.header import Header

MOST_NON_FINITE_SHARE = 1e-3
SLAB_VOXELS = 1 << 16  # fits the second-level cache as float64


def native(stored: np.ndarray, header: Header) -> np.ndarray:
    """Bytes from the file, decompressed, as numbers in this machine's byte order, in place."""
    numbers = stored.view(header.dtype)
    if header.byte_order != _native_order():
        numbers.byteswap(inplace=True)
    return numbers


def values_of(stored: np.ndarray, header: Header, warnings: list[str]) -> np.ndarray:
    """The voxel values, in Fortran order and writeable; takes the buffer over.

    Args:
        stored: The stored numbers in the file's order, one axis.
        header: Says what they mean.
        warnings: Takes a sentence if voxels were replaced.

    Raises:
        NonFiniteVoxelsError: If more than 0.1 % are not finite.
    """
    values = stored
    if header.is_scaled:
        values = _scaled(values, header.slope, header.inter)
    elif values.dtype == np.float64:
        values = _scaled(values, 1.0, 0.0)
    if values.dtype == np.float32:
        _replace_non_finite(values, warnings)
    return values.reshape(header.shape, order="F")


def _native_order() -> str:
    return "little" if np.little_endian else "big"


def _scaled(values: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """values * slope + inter, reckoned in float64, as float32; slab by slab to stay in cache."""
    result = np.empty(len(values), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted afterwards
        for start in range(0, len(values), SLAB_VOXELS):
            slab = values[start : start + SLAB_VOXELS].astype(np.float64)
            slab *= slope
            slab += inter
            result[start : start + SLAB_VOXELS] = slab
    return result


def _replace_non_finite(values: np.ndarray, warnings: list[str]) -> None:
    # min and max pass NaN on and find infinities, without an array of answers
    if np.isfinite(values.min()) and np.isfinite(values.max()):
        return
    is_bad = ~np.isfinite(values)
    bad = int(is_bad.sum())
    if bad > MOST_NON_FINITE_SHARE * len(values):
        raise NonFiniteVoxelsError(
            f"{bad} of {len(values)} voxels are NaN or infinite; up to 0.1 % are replaced. "
            "Replace them by the background's value and check the intensity scaling."
        )
    values[is_bad] = 0
    warnings.append(f"{bad} voxels were NaN or infinite and were set to 0.")
