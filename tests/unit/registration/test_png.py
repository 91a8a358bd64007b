"""Our PNGs, against Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from service.registration.png import picture_of, rgb_png, thumbnail


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (37, 53, 3)).astype(np.uint8)


def seen_by_pillow(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_pillow_sees_what_was_written(picture: np.ndarray) -> None:
    png = rgb_png(picture)
    np.testing.assert_array_equal(seen_by_pillow(png), picture)
    np.testing.assert_array_equal(picture_of(png), picture)


def test_a_thumbnail_is_the_mean_of_squares(picture: np.ndarray) -> None:
    small = thumbnail(rgb_png(picture), 20)
    assert small is not None
    reduced = np.asarray(Image.fromarray(picture[:36, :51]).reduce(3)).astype(int)
    assert np.abs(seen_by_pillow(small).astype(int) - reduced).max() <= 1
    whole = rgb_png(picture)
    assert thumbnail(whole, 53) == whole


def test_other_bytes_are_no_picture_of_ours(picture: np.ndarray) -> None:
    others = io.BytesIO()
    Image.fromarray(picture).save(others, "PNG")
    ours = rgb_png(picture)
    for bad in (b"", b"\x89PNG\r\n\x1a\n", ours[:60], others.getvalue(), b"GIF89a" + ours):
        assert picture_of(bad) is None
        assert thumbnail(bad, 10) is None
