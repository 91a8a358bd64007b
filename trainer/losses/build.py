"""From the section `losses` of a configuration to functions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from torch import Tensor

from trainer.config.losses import AnyLossConfig, LossesConfig
from trainer.losses import field, image, label, points
from trainer.losses.correlation import lncc
from trainer.losses.mind import mind
from trainer.losses.multiscale import at_scales, thresholded
from trainer.losses.mutual_information import local_mutual_information, mutual_information

Loss = Callable[..., Tensor]
Category = Literal["image", "label", "points", "field"]

IMAGE: dict[str, Loss] = {
    "ssd": image.ssd,
    "ncc": image.ncc,
    "lncc": lncc,
    "mi": mutual_information,
    "local-mi": local_mutual_information,
    "mind": mind,
    "tukey": image.tukey,
}
LABEL: dict[str, Loss] = {
    "dice": label.dice,
    "jaccard": label.jaccard,
    "cross-entropy": label.cross_entropy,
    "mean-square": label.mean_square,
}
FIELD: dict[str, Loss] = {
    "gradient": field.gradient,
    "bending": field.bending,
    "folding": field.folding,
    "inverse-consistency": field.inverse_consistency,
    "known-displacement": field.known_displacement,
}
WITHOUT_UNITS = {"folding"}
# What a term's configuration says about the term, not to its function.
ABOUT_TERM = {"kind", "weight", "on"}
ABOUT_SCALES = {"binary", "scales", "scale_unit", "scale_kernel"}


@dataclass(frozen=True)
class Term:
    """One summand.

    `fn` takes, by category: (fixed, warped, mask) | (fixed_labels, warped_labels, present) |
    (displacement, fixed_points, moving_points) | (field,), or (displacement, reverse displacement)
    where `needs_reverse`, or (displacement, true displacement, fixed_labels) where `needs_truth`.
    """

    name: str
    weight: float
    category: Category
    fn: Loss
    on: Literal["displacement", "velocity"] = "displacement"
    needs_reverse: bool = False
    needs_truth: bool = False


@dataclass(frozen=True)
class Losses:
    """All terms whose weight is above 0, each name once."""

    terms: tuple[Term, ...]

    def of(self, category: Category) -> list[Term]:
        """The terms of one category."""
        return [term for term in self.terms if term.category == category]

    @property
    def needs_reverse(self) -> bool:
        """Whether a pair has to be registered the other way round as well."""
        return any(term.needs_reverse for term in self.terms)


def build_losses(config: LossesConfig, spacing_mm: Sequence[float]) -> Losses:
    """The functions that a configuration names.

    Args:
        config: The section `losses`.
        spacing_mm: Of the model grid, one for each axis; fields are in its voxels. A field loss
            takes another `spacing_mm` by name, for a velocity on a grid of larger cells.
    """
    spacing = tuple(float(s) for s in spacing_mm)
    found = [
        Term(
            loss.kind,  # type: ignore[attr-defined]
            loss.weight,
            category,  # type: ignore[arg-type]
            _function(category, loss, spacing),
            getattr(loss, "on", "displacement"),
            getattr(loss, "kind", "") == "inverse-consistency",
            getattr(loss, "kind", "") == "known-displacement",
        )
        for category, group in config.groups().items()
        for loss in group
        if loss.weight > 0
    ]
    return Losses(tuple(_named_once(found)))


def _named_once(terms: Sequence[Term]) -> Iterator[Term]:
    """A second term of a kind is called kind-2, and so on."""
    seen: dict[str, int] = {}
    for term in terms:
        count = seen[term.name] = seen.get(term.name, 0) + 1
        name = term.name if count == 1 else f"{term.name}-{count}"
        yield replace(term, name=name)


def _function(category: str, loss: AnyLossConfig, spacing: tuple[float, ...]) -> Loss:
    options: dict[str, Any] = loss.model_dump(exclude=ABOUT_TERM | ABOUT_SCALES)
    kind = loss.kind  # type: ignore[attr-defined]
    if category == "image":
        return partial(IMAGE[kind], **options)
    if category == "label":
        return _label_loss(partial(LABEL[kind], **options), loss, spacing)
    if kind not in WITHOUT_UNITS:
        options["spacing_mm"] = spacing
    return partial(points.distance if category == "points" else FIELD[kind], **options)


def _label_loss(sharp: Loss, config: Any, spacing: tuple[float, ...]) -> Loss:
    loss = sharp
    if config.scales:
        unit = spacing if config.scale_unit == "mm" else (1.0,) * len(spacing)
        scales = [[scale / s for s in unit] for scale in config.scales]
        loss = at_scales(loss, scales, config.scale_kernel)
    return thresholded(loss) if config.binary else loss
