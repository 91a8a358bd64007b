"""A pair before its deformation: how it looks, how alike it is, how plausible its affine.

None of it needs the deformation, so it is taken beside the search and the refinement, which leave
a core idle at times.
"""

from concurrent.futures import Executor, Future
from dataclasses import dataclass

from service.registration.fields import Affine
from service.registration.figures import Figures, of_image, of_labels
from service.registration.options import RegisterOptions
from service.registration.pair import Pair
from service.registration.plausibility import plausibility
from service.registration.prepared import PreparedMoving, PreparedPair
from service.registration.resample import resample
from service.registration.volume import Volume


@dataclass(frozen=True, eq=False)
class AsSent:
    """The moving side on the fixed grid, where its header (or the caller's transform) puts it.

    `image` has values as kernels can take them (see `tempering`); `labels` are there if there are
    fixed ones to compare them with; `figures` are those of the report that end in `before`.
    """

    image: Volume
    labels: Volume | None
    figures: Figures


class Baseline:
    """What is told of a pair without its deformation; results are waited for."""

    def __init__(
        self, pair: Pair, prepared: PreparedPair, options: RegisterOptions, beside: Executor
    ) -> None:
        """What needs nothing but the pair is begun.

        Args:
            pair: As it was sent.
            prepared: The same, made ready.
            options: Of which `fill` lies outside the moving field of view.
            beside: Does the work.
        """
        self.pair = pair
        self.fixed = prepared.fixed
        # Let go as soon as it was looked at: with its levels it is as large as the field.
        self._moving: PreparedMoving | None = prepared.moving
        self._beside = beside
        self._options = options
        self._as_sent = beside.submit(self._seen_as_sent)
        self._fit: Future[dict[str, float]] | None = None

    def place(self, affine: Affine) -> None:
        """Begin what hangs on the affine that was found: is it a pair, the right way round?"""
        self._fit = self._beside.submit(self._fitting, affine)

    @property
    def as_sent(self) -> AsSent:
        """The pair where it lay."""
        return self._as_sent.result()

    def seen(self, warped: Volume) -> Volume:
        """The warped image with values as kernels can take them."""
        tempering = self.pair.moving_tempering
        if self._options.interpolation == "cubic":  # swings beyond the values that it passes
            return tempering.apply(warped)
        return tempering.apply_to_own(warped, self._options.fill)

    @property
    def figures(self) -> Figures:
        """All that is known; what hangs on the affine only if it was told."""
        return self.as_sent.figures | (self._fit.result() if self._fit else {})

    def _fitting(self, affine: Affine) -> dict[str, float]:
        moving, self._moving = self._moving, None
        if moving is None:
            raise RuntimeError("A pair has one affine.")
        labels = self.pair.fixed_labels, self.pair.moving_labels
        return plausibility(self.fixed.glimpsed, moving.glimpsed, affine, *labels)

    def _seen_as_sent(self) -> AsSent:
        pair, grid, fill = self.pair, self.pair.fixed.grid, self._options.fill
        laid = resample(pair.moving, grid, affine=pair.initial, fill=fill)
        image, labels = pair.moving_tempering.apply_to_own(laid, fill), None
        figures = of_image(self.fixed, image, "before")
        if pair.fixed_labels is not None and pair.moving_labels is not None:
            labels = resample(
                pair.moving_labels, grid, affine=pair.initial, interpolation="nearest"
            )
            figures |= of_labels(pair.fixed_labels, labels, "before")
        return AsSent(image, labels, figures)
