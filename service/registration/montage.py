"""Putting views side by side, with letters, as PNG."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.registration.colours import Rgb
from service.registration.png import rgb_png
from service.registration.views import View

GAP_PX = 10
LETTER_RGB, LETTER_PX = (235, 200, 90), 13
ENCODED_AT_ONCE = 2


def row_size(some: list[View]) -> tuple[int, int]:
    """Width and height of views side by side."""
    width = sum(view.size_px[0] for view in some) + GAP_PX * (len(some) - 1)
    return width, max(view.size_px[1] for view in some)


def places(some: list[View]) -> list[tuple[int, int]]:
    """Left and top of each view in its row."""
    height, left, found = row_size(some)[1], 0, []
    for view in some:
        found.append((left, (height - view.size_px[1]) // 2))
        left += view.size_px[0] + GAP_PX
    return found


def row(some: list[View], planes: list[Rgb]) -> Image.Image:
    """Views side by side on black, centred, with their orientation letters."""
    picture = Image.new("RGB", row_size(some))
    for place, plane in zip(places(some), planes, strict=True):
        picture.paste(Image.fromarray(plane), place)
    for place, outline, letter in _letters(tuple(some)):
        picture.paste((0, 0, 0), place, outline)
        picture.paste(LETTER_RGB, place, letter)
    return picture


@lru_cache(4)
def _letters(some: tuple[View, ...]) -> list[tuple[tuple[int, int], Image.Image, Image.Image]]:
    """Of each of a row's letters the place, how black it is around it, and the letter itself.

    A registration draws a dozen rows of the same views.
    """
    found = []
    for view, place in zip(some, places(list(some)), strict=True):
        for letter, (spot, anchor) in zip(view.letters, _spots(view, place), strict=True):
            corner = spot[0] - 2 * LETTER_PX, spot[1] - 2 * LETTER_PX
            outline, shape = (_letter(letter, anchor, stroke_px) for stroke_px in (2, 0))
            found.append((corner, outline, shape))
    return found


def _letter(letter: str, anchor: str, stroke_px: int) -> Image.Image:
    """How much of each pixel a letter covers that is anchored in the middle."""
    layer, middle = Image.new("L", (4 * LETTER_PX, 4 * LETTER_PX)), 2 * LETTER_PX
    draw = ImageDraw.Draw(layer)
    draw.text((middle, middle), letter, 255, _font(LETTER_PX), anchor, stroke_width=stroke_px)
    return layer


def _spots(view: View, place: tuple[int, int]) -> list[tuple[tuple[int, int], str]]:
    """Where a view's letters stand: left, right, top, bottom."""
    (left, top), (width, height) = place, view.size_px
    return [
        ((left + 4, top + height // 2), "lm"),
        ((left + width - 4, top + height // 2), "rm"),
        ((left + width // 2, top + 3), "mt"),
        ((left + width // 2, top + height - 3), "mb"),
    ]


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def titled(picture: Image.Image, title: str) -> Image.Image:
    """The picture with a line of text above it."""
    higher = Image.new("RGB", (picture.width, picture.height + 30))
    higher.paste(picture, (0, 30))
    spot = picture.width // 2, 15
    ImageDraw.Draw(higher).text(spot, title, (225, 225, 225), _font(16), "mm")
    return higher


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures next to each other, with a margin."""
    margin = 2 * GAP_PX
    width = sum(picture.width + margin for picture in pictures) + margin
    canvas = Image.new("RGB", (width, max(picture.height for picture in pictures) + margin))
    left = margin
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width + margin
    return canvas


def encoded(pictures: dict[str, Image.Image]) -> dict[str, bytes]:
    """PNGs by name; zlib lets other threads run, and compressing is most of the time here."""
    with ThreadPoolExecutor(ENCODED_AT_ONCE) as pool:
        return dict(zip(pictures, pool.map(png, pictures.values()), strict=True))


def png(picture: Image.Image) -> bytes:
    """An RGB picture as PNG, quickly rather than as small as can be; see `rgb_png`."""
    return rgb_png(np.asarray(picture))
