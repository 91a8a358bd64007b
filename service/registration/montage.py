"""Putting views side by side, with letters, as PNG."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.registration.colours import Rgb
from service.registration.png import rgb_png
from service.registration.views import View

GAP_PX = 10
LETTER_RGB = (235, 200, 90)


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
    for view, place, plane in zip(some, places(some), planes, strict=True):
        picture.paste(Image.fromarray(plane), place)
        _write_letters(ImageDraw.Draw(picture), view, place)
    return picture


def _write_letters(draw: ImageDraw.ImageDraw, view: View, place: tuple[int, int]) -> None:
    (left, top), (width, height) = place, view.size_px
    spots = [
        ((left + 4, top + height // 2), "lm"),
        ((left + width - 4, top + height // 2), "rm"),
        ((left + width // 2, top + 3), "mt"),
        ((left + width // 2, top + height - 3), "mb"),
    ]
    font = ImageFont.load_default(13)
    for letter, (spot, anchor) in zip(view.letters, spots, strict=True):
        draw.text(spot, letter, LETTER_RGB, font, anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def titled(picture: Image.Image, title: str) -> Image.Image:
    """The picture with a line of text above it."""
    higher = Image.new("RGB", (picture.width, picture.height + 30))
    higher.paste(picture, (0, 30))
    font = ImageFont.load_default(16)
    ImageDraw.Draw(higher).text((picture.width // 2, 15), title, (225, 225, 225), font, "mm")
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
    with ThreadPoolExecutor() as pool:
        return dict(zip(pictures, pool.map(png, pictures.values()), strict=True))


def png(picture: Image.Image) -> bytes:
    """An RGB picture as PNG, quickly rather than as small as can be; see `rgb_png`."""
    return rgb_png(np.asarray(picture))
