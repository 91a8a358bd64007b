"""What is made small: every loss of a pair, each with what it compares, and their weighted sum."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from trainer.data.batch import Batch
from trainer.forward import Forward, Prediction
from trainer.losses.build import Losses, Term

Terms = Mapping[str, Tensor]
Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Objective:
    """A network and the losses of what it gives."""

    forward: Forward
    losses: Losses
    is_symmetric: bool = False

    @property
    def names(self) -> list[str]:
        """Of the terms."""
        return [term.name for term in self.losses.terms]

    def __call__(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The weighted sum, and each term by name before its weight."""
        total, terms, _ = self.measured(batch)
        return total, terms

    def measured(self, batch: Batch) -> tuple[Tensor, Terms, Prediction]:
        """The same, with what the network gave."""
        prediction = self.forward(batch)
        needs_reverse = self.is_symmetric or self.losses.needs_reverse
        reverse = self.forward(swapped(batch)) if needs_reverse else None
        terms = self._terms(batch, prediction, reverse)
        if self.is_symmetric and reverse is not None:
            back = self._terms(swapped(batch), reverse, prediction)
            terms = {name: (value + back[name]) / 2 for name, value in terms.items()}
        weighted = [term.weight * terms[term.name] for term in self.losses.terms]
        total = weighted[0]
        for value in weighted[1:]:
            total = total + value
        if prediction.displacement is not None:
            # To a warp, a vector that is no number points outside: the loss would not show it.
            total = total + 0 * prediction.displacement.detach().sum()
        return total, terms, prediction

    def _terms(
        self, batch: Batch, prediction: Prediction, reverse: Prediction | None
    ) -> dict[str, Tensor]:
        return {t.name: _value(t, batch, prediction, reverse) for t in self.losses.terms}


def _value(term: Term, batch: Batch, prediction: Prediction, reverse: Prediction | None) -> Tensor:
    """One term; one that the batch has nothing for is zero."""
    inputs = _INPUTS[term.category](term, batch, prediction, reverse)
    if any(value is None for value in inputs):
        return batch.fixed.new_zeros(())
    if term.on == "velocity":
        # Cells are `stride` voxels: in units of cells, on a grid of cells.
        stride = batch.size[0] // inputs[0].shape[2]
        cells_mm = tuple(stride * s for s in batch.spacing_mm)
        return term.fn(inputs[0] / stride, spacing_mm=cells_mm)
    if term.category in ("image", "label"):
        extra = batch.fixed_mask if term.category == "image" else batch.label_present
        return term.fn(*inputs, extra)
    return term.fn(*inputs)


def _images(_term: Term, batch: Batch, prediction: Prediction, _reverse: Any) -> Inputs:
    return batch.fixed, prediction.warped


def _labels(_term: Term, batch: Batch, prediction: Prediction, _reverse: Any) -> Inputs:
    return batch.fixed_labels, prediction.warped_labels


def _points(_term: Term, batch: Batch, prediction: Prediction, _reverse: Any) -> Inputs:
    return prediction.displacement, batch.fixed_points, batch.moving_points


def _fields(term: Term, batch: Batch, prediction: Prediction, reverse: Prediction | None) -> Inputs:
    if term.needs_reverse:
        return prediction.displacement, reverse.displacement if reverse else None
    if term.needs_truth:
        return prediction.displacement, batch.displacement, batch.fixed_labels
    return (prediction.velocity if term.on == "velocity" else prediction.displacement,)


_INPUTS = {"image": _images, "label": _labels, "points": _points, "field": _fields}


def swapped(batch: Batch) -> Batch:
    """The same pairs the other way round, whose true displacement is not known."""
    return replace(
        batch,
        fixed=batch.moving,
        moving=batch.fixed,
        fixed_labels=batch.moving_labels,
        moving_labels=batch.fixed_labels,
        fixed_points=batch.moving_points,
        moving_points=batch.fixed_points,
        fixed_mask=batch.moving_mask,
        moving_mask=batch.fixed_mask,
        displacement=None,
    )
