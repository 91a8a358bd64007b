"""Each image of a pair made ready once, for every stage that looks at it alone.

A cohort registers many moving images to one fixed one, a live session many frames to one reference:
what hangs on that one is computed at its first use and kept. What nobody asks for is not computed.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from service.registration.engine import Engine, Seen
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.levels import fixed_levels, moving_levels
from service.registration.metrics import Windows, ncc
from service.registration.model_grid import no_finer
from service.registration.options import RegisterOptions
from service.registration.refine import FAST, level_spacings, plan_for
from service.registration.resample import downsample, resample, warp
from service.registration.scouted import Scouted
from service.registration.tempering import Tempering
from service.registration.volume import Volume

# A field is compared with none on about this many voxels.
COMPARED_VOXELS = 60**3


@dataclass(frozen=True, eq=False)
class Resolutions:
    """How finely a fixed grid has moving images looked at."""

    network: Grid
    refined_mm: tuple[float, ...]

    @classmethod
    def of(cls, fixed: Grid, engine: Engine, options: RegisterOptions) -> "Resolutions":
        plan = FAST if options.refine == "none" else plan_for(options.refine)
        if engine.card.spared_from is not None:
            plan = plan.from_further()
        spacings = level_spacings(fixed, plan)
        return cls(engine.grid(fixed), tuple(spacings))

    def are_same(self, other: "Resolutions") -> bool:
        """Whether an image made ready for one will do for the other."""
        return len(self.refined_mm) == len(other.refined_mm) and bool(
            np.allclose(self.refined_mm, other.refined_mm, rtol=1e-6)
            and np.allclose(self.network.spacing_mm, other.network.spacing_mm, rtol=1e-6)
        )


class PreparedFixed:
    """A fixed image and its mask, to which many may be registered."""

    def __init__(
        self,
        image: Volume,
        mask: Volume | None,
        engine: Engine,
        options: RegisterOptions,
        *,
        tempering: Tempering | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            image: Any grid and real type.
            mask: On the image's grid; 1 where it counts.
            engine: Whose model grid and intensities are used.
            options: Of which `refine` says how finely the pair is looked at.
            tempering: Of the image, if it is known.

        Raises:
            InvalidPairError: If the model registers slices and the image is not one.
        """
        self.mask = mask
        self.grid = image.grid
        self.resolutions = Resolutions.of(image.grid, engine, options)
        self._sent, self._tempering = image, tempering
        self._engine = engine

    @cached_property
    def image(self) -> Volume:
        """The image with values as kernels can take them."""
        return (self._tempering or Tempering.of(self._sent)).apply_to_own(self._sent)

    @cached_property
    def scouted(self) -> Scouted:
        """As the search for a start sees it."""
        return Scouted(self.image, self.mask)

    @cached_property
    def shown(self) -> np.ndarray:
        """As the network is shown it."""
        return self._engine.show_fixed(self.image)

    @cached_property
    def compared(self) -> Volume:
        """On the grid on which answers are compared."""
        return downsample(self.image, self.grid.coarsened(COMPARED_VOXELS))

    @cached_property
    def compared_mask(self) -> Volume | None:
        if self.mask is None:
            return None
        return resample(self.mask, self.compared.grid, interpolation="nearest")

    @cached_property
    def glimpsed(self) -> Scouted:
        """The coarse copy as a search would see it; the verdict asks what else would fit."""
        return Scouted(self.compared, self.compared_mask)

    @cached_property
    def windows(self) -> Windows:
        """What warped images are compared with."""
        return Windows(self.compared, self.compared_mask)

    @cached_property
    def levels(self) -> list[Volume]:
        """As refinement sees it, coarse to fine."""
        return fixed_levels(self.image, self.resolutions.refined_mm)


class PreparedMoving:
    """A moving image and its mask, for fixed grids of the given resolutions."""

    def __init__(
        self,
        image: Volume,
        mask: Volume | None,
        resolutions: Resolutions,
        initial: Affine,
        *,
        tempering: Tempering | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            image: Any grid and real type.
            mask: On the image's grid; 1 where it counts.
            resolutions: Of the fixed image.
            initial: Where the pair lies to begin with: fixed world to moving world.
            tempering: Of the image, if it is known.
        """
        self._sent, self._tempering = image, tempering
        self.mask = mask
        self.grid = image.grid
        self.resolutions = resolutions
        self.initial = initial

    @cached_property
    def image(self) -> Volume:
        """As it was sent, float32."""
        return self._sent.as_float32()

    @cached_property
    def tempered(self) -> Volume:
        """The image with values as kernels can take them."""
        return (self._tempering or Tempering.of(self._sent)).apply_to_own(self._sent)

    @cached_property
    def scouted(self) -> Scouted:
        """As the search for a start sees it, where `initial` puts it in fixed space."""
        mask = None if self.mask is None else _placed(self.mask, self.initial)
        return Scouted(_placed(self.tempered, self.initial), mask)

    @cached_property
    def seen(self) -> Volume:
        """Ready to be laid on the model grid."""
        return no_finer(self.tempered, self.resolutions.network)

    @cached_property
    def compared(self) -> Volume:
        """Coarse, to be warped where answers are compared."""
        return downsample(self.tempered, self.grid.coarsened(COMPARED_VOXELS))

    @cached_property
    def glimpsed(self) -> Scouted:
        """The coarse copy as a search would see it, where the header puts it, without its mask."""
        return Scouted(self.compared)

    @cached_property
    def air(self) -> float:
        """What most of the border is, which goes on beyond the field of view."""
        data = self.compared.data
        ends = [data[[0, -1]], data[:, [0, -1]], data[:, :, [0, -1]]]
        return float(np.median(np.concatenate([end.ravel() for end in ends])))

    @cached_property
    def levels(self) -> list[Volume]:
        """As refinement sees it, coarse to fine."""
        return moving_levels(self.tempered, self.resolutions.refined_mm)


class _Laid:
    """The moving image on the fixed one, coarse copies of both, to tell how alike they are."""

    def __init__(self, fixed: PreparedFixed, warped: Volume) -> None:
        """Nothing is computed yet; `warped` lies on the grid of `fixed.compared`."""
        self._fixed, self._warped = fixed, warped

    @cached_property
    def similarity(self) -> float:
        return self._fixed.windows.lncc(self._warped)

    @cached_property
    def correlation(self) -> float:
        return ncc(self._fixed.compared, self._warped, self._fixed.compared_mask)


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """Two images that are made ready for each other."""

    fixed: PreparedFixed
    moving: PreparedMoving
    moving_labels: Volume | None = None
    _laid: dict[bytes, _Laid] = field(default_factory=dict, init=False, repr=False)

    @property
    def initial(self) -> Affine:
        return self.moving.initial

    @property
    def seen(self) -> Seen:
        """As the network sees the pair, but for the transform."""
        return Seen(self.fixed.resolutions.network, self.fixed.shown, self.moving.seen)

    def make_levels(self) -> None:
        """Have both images ready as refinement sees them; what fails here fails again there."""
        _ = self.moving.levels, self.fixed.levels

    def similarity(self, affine: Affine, field: DisplacementField | None = None) -> float:
        """Local correlation under a transform, on coarse copies; nan where nothing can be said."""
        return self._under(affine, field).similarity

    def correlation(self, affine: Affine, field: DisplacementField | None = None) -> float:
        """Pearson's, on the same copies: near 1 where contrasts are alike and the pair is near."""
        return self._under(affine, field).correlation

    def _under(self, affine: Affine, field: DisplacementField | None) -> _Laid:
        """The pair under a transform; what an affine alone makes of it is kept."""
        moving, grid = self.moving.compared, self.fixed.compared.grid
        if field is not None:
            warped = warp(moving, field, grid, affine=affine, fill=self.moving.air)
            return _Laid(self.fixed, warped)
        key = affine.matrix.tobytes()
        if key not in self._laid:
            warped = resample(moving, grid, affine=affine, fill=self.moving.air)
            self._laid[key] = _Laid(self.fixed, warped)
        return self._laid[key]


def _placed(moving: Volume, initial: Affine) -> Volume:
    """The moving volume where the initial transform says that it lies in fixed space."""
    return Volume(
        moving.data, Grid(moving.grid.shape, initial.inverse().matrix @ moving.grid.affine)
    )
