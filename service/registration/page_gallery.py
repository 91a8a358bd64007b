"""The pictures of `report.html`, each with a sentence that says how to read it."""

from base64 import b64encode
from dataclasses import dataclass

from service.registration.colours import Scale
from service.registration.pictures import Pictures

MATCHED = (
    " The moving image is shown in the fixed image's contrast, as the aligned pair relates them."
)


@dataclass(frozen=True)
class Figure:
    """One figure: what is switched between (picture names to labels), and how to read it."""

    title: str
    caption: str
    shows: dict[str, str]
    scale: str | None = None
    ends: tuple[str, str] = ("", "")
    in_fixed_contrast: bool = False


def _before_after(name: str) -> dict[str, str]:
    return {f"{name}_after": "After", f"{name}_before": "Before"}


FIGURES = (
    Figure(
        "Flicker",
        "The fixed image, and the moving image where the registration takes it and where its "
        "header puts it. Switch with the arrow keys: what jumps is not aligned.",
        {"fixed": "Fixed", "after": "Moving, after", "before": "Moving, before"},
    ),
    Figure(
        "Overlay",
        "Fixed in green, moving in magenta; grey where they agree.",
        _before_after("overlay"),
        in_fixed_contrast=True,
    ),
    Figure(
        "Labels",
        "Outlines of the fixed labels in blue, of the moving labels in orange, white where they "
        "coincide.",
        _before_after("labels"),
    ),
    Figure(
        "Checkerboard",
        "Squares of fixed and moving in turn: edges must run on across the squares.",
        _before_after("checkerboard"),
        in_fixed_contrast=True,
    ),
    Figure(
        "Difference",
        "Moving minus fixed, in shares of the fixed image's grey range.",
        _before_after("difference"),
        scale="difference",
        ends=("moving is darker", "moving is brighter"),
        in_fixed_contrast=True,
    ),
    Figure(
        "Deformed grid",
        "Lines of the fixed grid where the deformation beyond the affine takes them, in the plane "
        "of each slice. Lines that cross themselves are folds.",
        {},
    ),
    Figure(
        "Local volume change",
        "log₂ of the Jacobian determinant beyond the affine; one step of 1 is a doubling. "
        "Folded voxels are red.",
        {"jacobian": "Jacobian map"},
        scale="jacobian",
        ends=("smaller in the moving image", "larger in the moving image"),
    ),
    Figure(
        "Displacement",
        "Length of the deformation beyond the affine, in millimetres.",
        {"displacement": "Displacement"},
        scale="displacement",
        ends=("", "mm"),
    ),
)


def gallery(pictures: Pictures) -> bytes:
    """The markup of every figure that there are pictures for.

    Encoded one by one: a text of megabytes that has a sign beyond ASCII takes two bytes for each.
    """
    made = (_figure(figure, pictures) for figure in FIGURES)
    return b"\n".join(figure.encode() for figure in made if figure)


def _figure(figure: Figure, pictures: Pictures) -> str:
    shown = {name: label for name, label in figure.shows.items() if name in pictures.png}
    if figure.shows and not shown:
        return ""
    caption = figure.caption
    if figure.in_fixed_contrast and pictures.contrast_matched:
        caption += MATCHED
    screen = _screen(figure, shown, pictures)
    scale = _scale(pictures.scales[figure.scale], figure.ends) if figure.scale else ""
    return (
        f'<figure class="card"><figcaption><h3>{figure.title}</h3>{caption}</figcaption>'
        f"{screen}{scale}</figure>"
    )


def _screen(figure: Figure, shown: dict[str, str], pictures: Pictures) -> str:
    if not shown:
        return f'<div class="screen">{_grid(pictures)}</div>'
    images = "".join(
        _image(pictures, name, f"{figure.title}: {label}") for name, label in shown.items()
    )
    if len(shown) == 1:
        return f'<div class="screen">{images}</div>'
    buttons = "".join(
        f'<input type="radio" name="{figure.title}" id="{name}"{" checked" * (number == 0)}>'
        f'<label for="{name}">{label}</label>'
        for number, (name, label) in enumerate(shown.items())
    )
    return (
        f'<div class="compare" role="radiogroup" aria-label="{figure.title}">{buttons}'
        f'<div class="screen">{images}</div></div>'
    )


def _image(pictures: Pictures, name: str, meaning: str) -> str:
    width, height = pictures.size_px
    data = b64encode(pictures.png[name]).decode()
    return (
        f'<img width="{width}" height="{height}" alt="{meaning}; {", ".join(pictures.planes)}" '
        f'src="data:image/png;base64,{data}">'
    )


def _grid(pictures: Pictures) -> str:
    width, height = pictures.size_px
    return (
        f'<svg class="grid" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Deformed grid; {", ".join(pictures.planes)}">{pictures.grid_svg}</svg>'
    )


def _scale(scale: Scale, ends: tuple[str, str]) -> str:
    """A colour bar with its end values."""
    last = len(scale.colours) - 1
    stops = "".join(
        f'<stop offset="{number / last:g}" stop-color="rgb{colour}"/>'
        for number, colour in enumerate(scale.colours)
    )
    name = f"scale-{scale.low:g}-{scale.high:g}-{scale.colours[0][0]}"
    low, high = (
        f"{value:+g}" if scale.low < 0 else f"{value:.3g}" for value in (scale.low, scale.high)
    )
    return (
        f'<div class="scale"><span>{ends[0]} {low}</span><svg viewBox="0 0 220 12" '
        f'preserveAspectRatio="none" aria-hidden="true"><defs><linearGradient id="{name}">{stops}'
        f'</linearGradient></defs><rect width="220" height="12" fill="url(#{name})"/></svg>'
        f"<span>{high} {ends[1]}</span></div>"
    )
