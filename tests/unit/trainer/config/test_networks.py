"""Configurations of networks that cannot be built say why."""

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.config.networks import (
    ConditionalConfig,
    DeepRegUNetConfig,
    DenseNetworkConfig,
    GlobalNetConfig,
    LocalNetConfig,
    OutputConfig,
    VoxelMorphConfig,
)

ANY = TypeAdapter(DenseNetworkConfig)


def test_the_defaults_are_voxelmorphs() -> None:
    config = VoxelMorphConfig()
    assert config.encoder == (16, 32, 32, 32)
    assert config.decoder == (32, 32, 32, 32, 32, 16, 16)
    assert config.slope == 0.2
    assert (config.output.kind, config.output.stride, config.output.steps) == ("velocity", 2, 7)


@pytest.mark.parametrize(
    "config",
    [
        VoxelMorphConfig(),
        DeepRegUNetConfig(extract_levels=(1, 3)),
        LocalNetConfig(),
        GlobalNetConfig(),
        ConditionalConfig(),
    ],
    ids=lambda config: config.kind,
)
def test_what_is_written_is_read_again(config: DenseNetworkConfig) -> None:
    assert ANY.validate_json(ANY.dump_json(config)) == config


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"kind": "voxelmorph", "decoder": [32]}, "at least 2 items"),
        ({"kind": "voxelmorph", "decoder": [32] * 4}, "more channel counts"),
        (
            {"kind": "voxelmorph", "encoder": [8], "decoder": [8, 8], "output": {"stride": 4}},
            "levels",
        ),
        ({"kind": "deepreg-unet", "extract_levels": [0]}, "decoder stops at level 1"),
        ({"kind": "deepreg-unet", "depth": 2, "extract_levels": [3]}, "deepest level"),
        ({"kind": "deepreg-unet", "extract_levels": [2, 2]}, "twice"),
        ({"kind": "deepreg-unet", "encode_channels": [2, 4]}, "4 channel counts"),
        ({"kind": "deepreg-unet", "decode_channels": [4, 8, 16]}, "skips can only be added"),
        (
            {"kind": "localnet", "depth": 1, "encode_channels": [4, 6]},
            "twice the channels at each level below",
        ),
        ({"kind": "globalnet", "image_size": [64, 64, 64]}, "Extra inputs"),
        ({"kind": "conditional", "backbone": {"kind": "voxelmorph", "output": {}}}, "Extra inputs"),
        ({"kind": "voxelmorph", "output": {"control_spacing": 1}}, "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_built_is_refused(document: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ANY.validate_python(document)


def test_joined_skips_take_any_channels() -> None:
    config = DeepRegUNetConfig(decode_channels=(3, 5, 7), concat_skip=True)
    assert config.widths() == ((16, 32, 64, 128), (3, 5, 7))


@pytest.mark.parametrize(
    ("output", "finest", "multiple"),
    [
        (OutputConfig(stride=1), 0, 16),
        (OutputConfig(stride=4), 2, 16),
        (OutputConfig(control_spacing=8), 3, 16),
        (OutputConfig(control_spacing=6), 1, 48),
        (OutputConfig(control_spacing=5), 0, 80),
        (OutputConfig(control_spacing=32), 4, 32),
    ],
)
def test_the_decoder_stops_where_the_output_needs_no_more(
    output: OutputConfig, finest: int, multiple: int
) -> None:
    config = VoxelMorphConfig(output=output)
    assert output.finest_level(config.depth) == finest
    assert config.multiple == multiple
