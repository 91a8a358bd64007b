"""The pictures people look at: three views of what was delivered, as PNG and SVG.

Everything is drawn from the delivered arrays on the fixed grid; nothing is resampled again but the
slices themselves, to the screen's pixels. `views` says how a slice lies on the picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from service.registration import colours
from service.registration.colours import GreyMatch, Plane, Rgb, Scale
from service.registration.deformation_lines import grid_lines
from service.registration.grid import Matrix4
from service.registration.montage import encoded, places, png, row, row_size, side_by_side, titled
from service.registration.views import View, views
from service.registration.volume import Volume

SAMPLE_VOXELS = 300_000  # as many as grey windows and contrasts are learned from
CHECKER_SQUARES = 8
VISIBLE = 0.1  # share of the grey window from which a pixel counts as part of the body
FIXED_LINE_RGB, MOVING_LINE_RGB = (90, 200, 255), (255, 160, 40)


@dataclass(frozen=True, eq=False)
class Scene:
    """One result, as delivered; every array lies on the grid of `fixed`.

    `before` is the moving image where its header puts it, `displacement_mm` the whole transform
    (RAS+), `jacobian` gives its determinant, asked for last. With `affine` (fixed to moving) the
    pictures of the deformation show what lies beyond it.
    """

    fixed: Volume
    before: np.ndarray
    warped: np.ndarray
    displacement_mm: Float[np.ndarray, "i j k 3"]
    jacobian: Callable[[], Float[np.ndarray, "i j k"]]
    affine: Matrix4 | None = None
    fixed_labels: np.ndarray | None = None
    labels_before: np.ndarray | None = None
    warped_labels: np.ndarray | None = None

    @cached_property
    def views(self) -> list[View]:
        """Slices through the middle of what is bright in the fixed image."""
        step = _stride(self.fixed.data)
        sample = np.nan_to_num(self.fixed.data[::step, ::step, ::step].astype(np.float32))
        bright = np.argwhere(sample > sample.mean())
        middle = bright.mean(axis=0) * step if len(bright) else np.array(sample.shape) * step / 2
        upper = np.array(self.fixed.grid.shape) - 1
        i, j, k = (int(n) for n in np.minimum(np.rint(middle), upper))
        return views(self.fixed.grid, (i, j, k))

    @cached_property
    def fixed_window(self) -> tuple[float, float]:
        return colours.window(_sample(self.fixed.data))

    @cached_property
    def moving_window(self) -> tuple[float, float]:
        """One window for before and after, so that the two can be compared."""
        return colours.window(_sample(self.warped))

    @cached_property
    def match(self) -> GreyMatch:
        """How the moving image's greys look in the fixed image's contrast."""
        fixed = colours.grey(_sample(self.fixed.data), self.fixed_window)
        return GreyMatch.learn(fixed, colours.grey(_sample(self.warped), self.moving_window))

    @cached_property
    def own_greys(self) -> dict[str, list[Plane]]:
        """Slices of each image in its own contrast, 0 to 1."""
        moving = self.moving_window
        return {
            "fixed": self._slices(self.fixed.data, self.fixed_window),
            "before": self._slices(self.before, moving),
            "after": self._slices(self.warped, moving),
        }

    @cached_property
    def greys(self) -> dict[str, list[Plane]]:
        """The same, in the fixed image's contrast."""
        own, matched = self.own_greys, self.match.apply
        moving = {name: [matched(plane) for plane in own[name]] for name in ("before", "after")}
        return {"fixed": own["fixed"], **moving}

    def _slices(self, data: np.ndarray, shown: tuple[float, float]) -> list[Plane]:
        return [
            np.clip(view.scaled(colours.grey(np.nan_to_num(view.cut(data)), shown)), 0, 1)
            for view in self.views
        ]

    @cached_property
    def deformations_mm(self) -> list[Float[np.ndarray, "h w 3"]]:
        """Displacement beyond the affine by view: A^-1(x + ddf(x)) - x, or ddf without A."""
        return [self._deformation_mm(view) for view in self.views]

    def _deformation_mm(self, view: View) -> Float[np.ndarray, "h w 3"]:
        moved = view.cut(self.displacement_mm).astype(np.float64)
        if self.affine is None:
            return moved
        positions = self.fixed.grid.to_world(_voxels_of(view))
        back = np.linalg.inv(np.asarray(self.affine, dtype=np.float64))
        return np.asarray((positions + moved) @ back[:3, :3].T + back[:3, 3] - positions)

    @property
    def affine_volume_factor(self) -> float:
        """|J| of the affine alone."""
        return 1.0 if self.affine is None else abs(float(np.linalg.det(self.affine[:3, :3])))


@dataclass(frozen=True)
class Pictures:
    """What the result page shows: PNG rows of three views by name, scales, and the grid's SVG."""

    png: dict[str, bytes]
    scales: dict[str, Scale]
    grid_svg: str
    size_px: tuple[int, int]
    planes: tuple[str, ...]
    contrast_matched: bool


def draw_pictures(scene: Scene) -> Pictures:
    """Draw every picture of the result page."""
    painter = _Painter(scene)
    fixed, before, after = (scene.greys[name] for name in ("fixed", "before", "after"))
    rows = {
        "fixed": [_as_rgb(plane) for plane in fixed],
        "before": [_as_rgb(plane) for plane in scene.own_greys["before"]],
        "after": [_as_rgb(plane) for plane in scene.own_greys["after"]],
        "overlay_before": [_blend(*pair) for pair in zip(fixed, before, strict=True)],
        "overlay_after": [_blend(*pair) for pair in zip(fixed, after, strict=True)],
        "checkerboard_before": [_checker(*pair) for pair in zip(fixed, before, strict=True)],
        "checkerboard_after": [_checker(*pair) for pair in zip(fixed, after, strict=True)],
        "difference_before": painter.differences(fixed, before),
        "difference_after": painter.differences(fixed, after),
        "displacement": painter.displacement(fixed),
        **painter.labels(fixed),
        "jacobian": painter.jacobian(fixed),
    }
    return Pictures(
        png=encoded({name: row(scene.views, planes) for name, planes in rows.items()}),
        scales=painter.scales,
        grid_svg=painter.grid_svg(),
        size_px=row_size(scene.views),
        planes=tuple(view.name for view in scene.views),
        contrast_matched=scene.match.table is not None,
    )


def overlay_picture(scene: Scene, planes: tuple[str, ...] = ("axial", "coronal")) -> bytes:
    """One PNG for a first look: fixed in green and moving in magenta, before and after.

    Args:
        planes: Which views to show, of axial, coronal and sagittal.
    """
    fixed = scene.greys["fixed"]
    chosen = [index for index, view in enumerate(scene.views) if view.name in planes]
    halves = []
    for name, title in (("before", "before"), ("after", "after")):
        blended = [_blend(*pair) for pair in zip(fixed, scene.greys[name], strict=True)]
        some = [scene.views[index] for index in chosen]
        halves.append(titled(row(some, [blended[index] for index in chosen]), title))
    return png(side_by_side(halves))


class _Painter:
    """Draws the rows of one scene; remembers the scales it used."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.scales: dict[str, Scale] = {"difference": Scale(colours.DIFFERENCE, -0.6, 0.6)}

    def differences(self, fixed: list[Plane], moving: list[Plane]) -> list[Rgb]:
        """Moving minus fixed, in shares of the fixed image's grey window."""
        paint = self.scales["difference"].paint
        return [paint(theirs - ours) for ours, theirs in zip(fixed, moving, strict=True)]

    def jacobian(self, fixed: list[Plane]) -> list[Rgb]:
        """log2 of the local volume factor beyond the affine; folded voxels red."""
        factor, determinants = self.scene.affine_volume_factor, self.scene.jacobian()
        cuts = [view.cut(determinants) / factor for view in self.scene.views]
        logs = self._scaled([np.log2(np.maximum(cut, 1e-3)) for cut in cuts])
        end = float(np.clip(np.ceil(_most([abs(log) for log in logs], fixed) * 4) / 4, 0.25, 2.0))
        scale = self.scales["jacobian"] = Scale(colours.JACOBIAN, -end, end)
        planes = []
        for view, cut, log, shade in zip(self.scene.views, cuts, logs, fixed, strict=True):
            plane = _shaded(scale.paint(log), shade)
            plane[view.scaled(cut <= 0, smooth=False) > 0.5] = colours.FOLD_RGB
            planes.append(plane)
        return planes

    def displacement(self, fixed: list[Plane]) -> list[Rgb]:
        """Length of the deformation in mm."""
        lengths = self._scaled([np.linalg.norm(x, axis=-1) for x in self.scene.deformations_mm])
        top = max(_most(lengths, fixed), 0.1)
        scale = self.scales["displacement"] = Scale(colours.MAGNITUDE, 0.0, top)
        return [_shaded(scale.paint(x), shade) for x, shade in zip(lengths, fixed, strict=True)]

    def _scaled(self, cuts: list[np.ndarray]) -> list[Plane]:
        return [view.scaled(cut) for view, cut in zip(self.scene.views, cuts, strict=True)]

    def labels(self, fixed: list[Plane]) -> dict[str, list[Rgb]]:
        """Outlines of fixed and moving labels on the fixed image."""
        scene, rows = self.scene, {}
        moving = {"labels_before": scene.labels_before, "labels_after": scene.warped_labels}
        for name, labels in moving.items():
            if labels is None or scene.fixed_labels is None:
                continue
            pairs = zip(scene.views, fixed, strict=True)
            rows[name] = [_outlined(view, g, scene.fixed_labels, labels) for view, g in pairs]
        return rows

    def grid_svg(self) -> str:
        """The fixed grid's lines where the deformation takes them, one group a view."""
        groups, some, grid = [], self.scene.views, self.scene.fixed.grid
        moved = zip(some, places(some), self.scene.deformations_mm, strict=True)
        for view, (left, top), deformation_mm in moved:
            width, height = view.size_px
            lines = grid_lines(view, grid, deformation_mm)
            groups.append(
                f'<svg x="{left}" y="{top}" width="{width}" height="{height}" '
                f'overflow="hidden">{lines}</svg>'
            )
        return "".join(groups)


def _stride(data: np.ndarray) -> int:
    return max(1, round(float(np.cbrt(data.size / SAMPLE_VOXELS))))


def _sample(data: np.ndarray) -> np.ndarray:
    """Voxels from all over the volume, flat and finite; the same places for the same shape."""
    step = _stride(data)
    return np.nan_to_num(data[::step, ::step, ::step].astype(np.float32)).ravel()


def _voxels_of(view: View) -> Float[np.ndarray, "h w 3"]:
    """Voxel index of each place of a cut slice."""
    rows, columns = (
        np.arange(count)[:: -1 if flip else 1]
        for count, flip in zip(view.shape, view.flips, strict=True)
    )
    index = np.empty((*view.shape, 3))
    index[..., view.cut_axis] = view.index
    index[..., view.row_axis] = rows[:, None]
    index[..., view.column_axis] = columns[None, :]
    return index


def _as_rgb(plane: Plane) -> Rgb:
    return np.repeat((plane * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _most(planes: list[Plane], fixed: list[Plane]) -> float:
    """The 99.5th percentile where the fixed image shows something; a colour scale's end."""
    shown = [plane[shade > VISIBLE] for plane, shade in zip(planes, fixed, strict=True)]
    values = np.concatenate(shown)
    if not len(values):
        values = np.concatenate([plane.ravel() for plane in planes])
    return float(np.percentile(values, 99.5))


def _shaded(colour: Rgb, shade: Plane) -> Rgb:
    """Colours darkened where the fixed image is dark, so that the anatomy can be made out."""
    return np.asarray(colour * (0.25 + 0.75 * np.sqrt(shade[..., None])), dtype=np.uint8)


def _blend(fixed: Plane, moving: Plane) -> Rgb:
    """Fixed in green, moving in magenta: grey where they agree."""
    green, magenta = ((plane * 255).astype(np.uint8) for plane in (fixed, moving))
    return np.stack([magenta, green, magenta], axis=-1)


def _checker(fixed: Plane, moving: Plane) -> Rgb:
    """Squares of one and the other in turn: edges must run on across their borders."""
    side = max(4, max(fixed.shape) // CHECKER_SQUARES)
    rows, columns = np.indices(fixed.shape) // side
    return _as_rgb(np.where((rows + columns) % 2 == 0, fixed, moving))


def _outlined(view: View, backdrop: Plane, fixed: np.ndarray, moving: np.ndarray) -> Rgb:
    """Label borders: fixed in blue, moving in orange, white where they coincide."""
    picture = _as_rgb(backdrop * 0.75)
    ours, theirs = (_borders(view.scaled(view.cut(x), smooth=False)) for x in (fixed, moving))
    picture[ours] = FIXED_LINE_RGB
    picture[theirs] = MOVING_LINE_RGB
    picture[ours & theirs] = (255, 255, 255)
    return picture


def _borders(labels: Plane) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1, :] |= labels[:-1, :] != labels[1:, :]
    return edge
