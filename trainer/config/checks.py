"""Whether the sections of a configuration go together: pointers and what to do."""

from collections.abc import Iterator

from trainer.config.document import NetworkConfig, TrainConfig
from trainer.config.matching_networks import CorrelationConfig, PddConfig, PyramidConfig
from trainer.config.networks import ConditionalConfig

Fault = tuple[str, str]


def cross_faults(config: TrainConfig) -> Iterator[Fault]:
    """A JSON pointer and a sentence for all that does not go together."""
    yield from _loss_faults(config)
    yield from _field_faults(config)
    yield from _truth_faults(config)
    if isinstance(config.network, ConditionalConfig):
        yield from _conditional_faults(config)
    yield from _grid_faults(config)
    yield from _step_faults(config)


def network_multiple(network: NetworkConfig) -> int:
    """What each size of the model grid must be a multiple of."""
    if isinstance(network, CorrelationConfig):
        return max(1 << len(network.channels), network.output.stride)
    if isinstance(network, PddConfig):
        return max(network.control_stride, network.output.stride)
    if isinstance(network, PyramidConfig):
        return 1 << len(network.channels)
    return network.multiple


def _loss_faults(config: TrainConfig) -> Iterator[Fault]:
    losses = config.losses
    counting = [loss for group in losses.groups().values() for loss in group if loss.weight > 0]
    if not counting:
        yield "/losses", "Name at least one loss with a weight above 0."
    elif all(getattr(loss, "binary", False) for loss in counting):
        yield "/losses/label", "A binary loss has no gradient to learn from; add another one."
    if losses.label and not config.data.gives_labels:
        yield "/losses/label", "A label loss needs labels; set data.labels to `required`."
    if losses.points and not config.data.gives_points:
        yield "/losses/points", "A point loss needs points; set data.points to `required`."


def _field_faults(config: TrainConfig) -> Iterator[Fault]:
    output = getattr(config.network, "output", None)
    for n, loss in enumerate(config.losses.field):
        on = getattr(loss, "on", "displacement")
        if on == "velocity" and (output is None or output.kind != "velocity"):
            yield f"/losses/field/{n}/on", "This network gives no velocity; take `displacement`."


def _truth_faults(config: TrainConfig) -> Iterator[Fault]:
    for n, loss in enumerate(config.losses.field):
        if loss.kind != "known-displacement" or loss.weight == 0:
            continue
        if config.data.synthetic == "none" or (
            config.data.synthetic == "labels" and config.synth.same_map == 0
        ):
            yield (
                f"/losses/field/{n}",
                "Only synthetic pairs of one label map have a known displacement; set "
                "data.synthetic, and synth.same_map above 0.",
            )
        for name in ("affine", "field"):
            if getattr(config.augment, name) is not None:
                yield (
                    f"/augment/{name}",
                    "The known displacement of a pair would no longer be true; move synthetic "
                    f"pairs by synth.{name}.",
                )


def _conditional_faults(config: TrainConfig) -> Iterator[Fault]:
    for group in ("image", "points", "field"):
        if config.losses.groups()[group]:
            yield (
                f"/losses/{group}",
                "A conditional network gives the fixed label and no field: only label losses can "
                "train it.",
            )
    if not config.data.gives_labels:
        yield "/data/labels", "A conditional network needs labels of both images."


def _grid_faults(config: TrainConfig) -> Iterator[Fault]:
    shape, multiple = config.data.grid.shape, network_multiple(config.network)
    for axis, size in enumerate(shape or ()):
        if size % multiple:
            yield (
                f"/data/grid/shape/{axis}",
                f"This network takes sizes that are multiples of {multiple}; {size} is not one. "
                f"Take {-(-size // multiple) * multiple}.",
            )
    voxel_mm = config.data.grid.spacing_mm
    scales = [
        scale / (voxel_mm if loss.scale_unit == "mm" else 1.0)
        for loss in config.losses.label
        for scale in loss.scales
    ]
    if shape and scales and max(scales) > min(shape):
        yield "/losses/label", f"A scale of {max(scales):g} voxels is larger than the model grid."


def _step_faults(config: TrainConfig) -> Iterator[Fault]:
    train, splits = config.train, config.data.splits
    if train.precision == "float16" and train.device == "cpu":
        yield "/train/precision", "float16 needs a GPU; take bfloat16."
    if train.monitor == "dice" and config.data.labels == "none":
        yield "/train/monitor", "Dice needs labels of the validation pairs; set data.labels."
    if train.monitor == "tre_mm" and config.data.points == "none":
        yield "/train/monitor", "TRE needs points of the validation pairs; set data.points."
    has_no_valid = not splits.valid if hasattr(splits, "valid") else False
    if train.early_stop is not None and has_no_valid:
        yield "/train/early_stop", "Patience needs validation pairs; name some in data.splits."
