"""What is trained on: where the images are, how they pair, and on which grid they are seen."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.registration.card import Intensity, ModelGrid
from service.registration.options import Initialise
from trainer.config.splits import ExplicitSplits, RelativePath, SplitsConfig

Presence = Literal["none", "optional", "required"]
SplitName = Literal["train", "valid", "test"]


def _plain_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError("a folder is named by letters, digits, dots, hyphens and underscores")
    return value


FolderName = Annotated[str, AfterValidator(_plain_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FolderNames(_Section):
    """What the folders (or, for HDF5, the files without `.h5`) are called."""

    fixed_images: FolderName = Field("fixed_images", description="Paired: fixed images.")
    moving_images: FolderName = Field("moving_images", description="Paired: moving images.")
    fixed_labels: FolderName = Field("fixed_labels", description="Paired: their labels.")
    moving_labels: FolderName = Field("moving_labels", description="Paired: their labels.")
    fixed_points: FolderName = Field("fixed_points", description="Paired: points, CSV.")
    moving_points: FolderName = Field("moving_points", description="Paired: points, CSV.")
    fixed_masks: FolderName = Field("fixed_masks", description="Paired: where fixed counts.")
    moving_masks: FolderName = Field("moving_masks", description="Paired: where moving counts.")
    images: FolderName = Field("images", description="Unpaired and grouped: images.")
    labels: FolderName = Field("labels", description="Unpaired and grouped: their labels.")
    points: FolderName = Field("points", description="Unpaired and grouped: points, CSV.")
    masks: FolderName = Field("masks", description="Unpaired and grouped: where images count.")


class Row(_Section):
    """One line of a list: a pair, or one image. Paths are relative to the data root."""

    fixed: RelativePath | None = Field(None, description="Paired: the fixed image.")
    moving: RelativePath | None = Field(None, description="Paired: the moving image.")
    fixed_labels: RelativePath | None = Field(None, description="Paired: labels of fixed.")
    moving_labels: RelativePath | None = Field(None, description="Paired: labels of moving.")
    fixed_points: RelativePath | None = Field(None, description="Paired: points in fixed.")
    moving_points: RelativePath | None = Field(None, description="Paired: the same in moving.")
    fixed_mask: RelativePath | None = Field(None, description="Paired: where fixed counts.")
    moving_mask: RelativePath | None = Field(None, description="Paired: where moving counts.")
    image: RelativePath | None = Field(None, description="Unpaired and grouped: an image.")
    labels: RelativePath | None = Field(None, description="Its labels.")
    points: RelativePath | None = Field(None, description="Its points.")
    mask: RelativePath | None = Field(None, description="Where it counts.")
    group: str | None = Field(None, description="Its subject; splits keep groups together.")
    split: str | None = Field(None, description="train, valid or test, for splits by column.")


class GroupedConfig(_Section):
    """How grouped images (several of one subject) are paired."""

    intra_group_prob: float = Field(
        1.0, ge=0, le=1, description="Probability that a pair lies within one group."
    )
    intra_group_option: Literal["forward", "backward", "unconstrained"] = Field(
        "unconstrained",
        description="Within a group, ordered by name: `forward` takes the earlier image as "
        "moving, `backward` the later one.",
    )
    sample_image_in_group: bool = Field(
        True,
        description="One random pair for each group an epoch; else every pair, which needs an "
        "intra_group_prob of 0 or 1.",
    )

    @model_validator(mode="after")
    def _all_pairs_are_of_one_kind(self) -> Self:
        if not self.sample_image_in_group and self.intra_group_prob not in (0, 1):
            raise ValueError("every pair is taken: intra_group_prob must be 0 or 1")
        return self


class GridConfig(_Section):
    """The model grid: squares or cubes on the fixed image's axes."""

    ndim: Literal[2, 3] = Field(3, description="Spatial axes: 2 for single slices.")
    spacing_mm: float = Field(1.0, gt=0, le=100, description="Edge of a voxel.")
    shape: tuple[Annotated[int, Field(ge=1, le=2048)], ...] | None = Field(
        None,
        description="Fixed size in voxels, cropped or padded about the fixed image's centre; "
        "without it the grid covers the fixed field of view.",
    )
    voxels: int | None = Field(
        None,
        gt=0,
        description="About how many voxels the service cuts a field of view into, whatever their "
        "size, for a model of any organ; training stays at `spacing_mm`.",
    )
    max_voxels: int = Field(4_000_000, gt=0, description="A pair that needs more is refused.")
    orientation: Literal["fixed", "RAS"] = Field(
        "fixed", description="The fixed image's own axes, or those of the world."
    )
    padding: Literal["edge", "zero"] = Field(
        "edge", description="What fills the far end up to the network's multiple."
    )

    @model_validator(mode="after")
    def _shape_has_the_axes(self) -> Self:
        if self.shape is not None and len(self.shape) != self.ndim:
            raise ValueError(f"shape needs {self.ndim} sizes")
        if self.ndim == 2 and self.orientation == "RAS":
            raise ValueError("slices are seen on their own axes: orientation must be `fixed`")
        return self

    def rule(self, multiple: int) -> ModelGrid:
        """The same as the model's card states it, for a network with this multiple."""
        return ModelGrid(
            spacing_mm=None if self.voxels else self.spacing_mm,
            voxels=self.voxels,
            max_voxels=self.max_voxels,
            orientation=self.orientation,
            multiple=multiple,
            padding=self.padding,
        )


class CacheConfig(_Section):
    """How prepared arrays are kept: on disk always, in memory as far as they fit."""

    memory_mib: int = Field(512, ge=0, le=1 << 20, description="Prepared pairs in memory.")


class DataConfig(_Section):
    """The data of a training. All paths are relative to `root` and stay inside it."""

    root: str = Field(".", description="The data root; no symbolic link below it is followed.")
    format: Literal["folders", "list", "hdf5", "none"] = Field(
        "folders",
        description="`folders` of NIfTI, NRRD or MetaImage; `list`: CSV or JSON tables, or `rows`; "
        "`hdf5`: DeepReg's files; `none`: no acquired data.",
    )
    pairing: Literal["paired", "unpaired", "grouped"] = Field(
        "paired",
        description="Fixed and moving come together; any two images; or images of a subject.",
    )
    synthetic: Literal["none", "labels", "shapes"] = Field(
        "none",
        description="Training pairs are rendered: from the label maps of the training split, or "
        "from random shapes. Validation and test stay real unless format is `none`.",
    )
    splits: SplitsConfig = Field(
        ExplicitSplits(), description="Which data are for training, validation and test."
    )
    rows: tuple[Row, ...] = Field((), description="A list within the configuration.")
    folders: FolderNames = Field(FolderNames(), description="Names of the folders.")
    hdf5_spacing_mm: tuple[float, float, float] = Field(
        (1.0, 1.0, 1.0), description="Of HDF5 images that carry no `affine` attribute (4x4, RAS)."
    )
    labels: Presence = Field("none", description="Label maps, or 4-D files of one label each.")
    label_values: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (), description="Labels that count: values, or places (from 1) in a 4-D file; empty: all."
    )
    sample_label: Literal["sample", "all"] = Field(
        "sample",
        description="Training sees one random label of a pair, or all. Evaluation sees all.",
    )
    soft_labels: bool = Field(
        True,
        description="A label is its share of each voxel, as the service has it; else one label a "
        "voxel, which is quicker where there are many.",
    )
    points: Presence = Field("none", description="Corresponding points, by name or by order.")
    masks: Presence = Field("none", description="Where an image counts, 1 inside.")
    grouped: GroupedConfig = Field(GroupedConfig(), description="How grouped images are paired.")
    pairs_per_epoch: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Training pairs of an epoch; by default all pairs (paired), half as many as "
        "images (unpaired), one for each group, or 100 synthetic ones.",
    )
    evaluation_pairs: int | None = Field(
        None, ge=1, le=1_000_000, description="Of validation and test, the same; never random."
    )
    grid: GridConfig = Field(GridConfig(), description="The grid that the network sees.")
    initialise: Initialise = Field(
        "none",
        description="How the moving image is placed before the network, as the service will: "
        "`none` (headers), `centre`, `moments`, `rigid` or `affine`.",
    )
    intensity: Intensity = Field(
        Intensity(rule="percentiles", low=0.5, high=99.5),
        description="How each image's values are brought to [0, 1].",
    )
    moving_intensity: Intensity | None = Field(
        None, description="Of moving images, where it is not that of fixed ones."
    )
    check_voxels: bool = Field(
        False, description="Read every file whole before the first step, not the headers alone."
    )
    cache: CacheConfig = Field(CacheConfig(), description="How prepared arrays are kept.")

    @property
    def gives_labels(self) -> bool:
        """Whether training pairs have labels, unless a case lacks them."""
        return self.labels != "none" or self.synthetic != "none"

    @property
    def gives_points(self) -> bool:
        """Whether pairs have points, unless a case lacks them."""
        return self.points != "none" and self.synthetic == "none"

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        if self.format == "none" and self.synthetic != "shapes":
            raise ValueError("without acquired data, synthetic must be `shapes`")
        if self.synthetic == "labels" and self.labels == "none":
            raise ValueError("pairs are rendered from label maps: set labels to `required`")
        if self.synthetic != "none" and self.grid.shape is None:
            raise ValueError("rendered pairs need a fixed size: set grid.shape")
        if self.rows and self.format != "list":
            raise ValueError("rows belong to the format `list`")
        if self.splits.kind == "column" and self.format != "list":
            raise ValueError("only lists have a split column")
        if self.grid.ndim == 2 and self.initialise in ("rigid", "affine"):
            raise ValueError("slices can start from none, centre or moments")
        return self
