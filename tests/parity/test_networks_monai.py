"""With the same weights our networks give what MONAI's give, where MONAI's are right.

MONAI's `RegUNet` and `LocalNet` bring the fields of deeper levels to the image's size by nearest
neighbours, which makes staircases of a smooth field; DeepReg, from which they come, interpolates
linearly, and so do we. The tests switch MONAI to that.
"""

from collections.abc import Iterable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from trainer.config.networks import (  # noqa: E402
    DeepRegUNetConfig,
    LocalNetConfig,
    OutputConfig,
    VoxelMorphConfig,
)
from trainer.networks.deepreg import UNet  # noqa: E402
from trainer.networks.voxelmorph import VoxelMorph  # noqa: E402

FULL = OutputConfig(kind="displacement", stride=1)
CONVOLUTIONS = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
NORMS = nn.BatchNorm2d | nn.BatchNorm3d
BOTH = pytest.mark.parametrize("ndim", [2, 3])


def monai_nets() -> Any:
    """Imported when it is asked for: that takes seconds, and all processes collect this file."""
    return pytest.importorskip("monai.networks.nets")


def _images(ndim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    first, second = torch.rand(2, 2, 1, *(16, 24, 8)[:ndim], generator=generator)
    return first, second


def _convolutions(network: nn.Module) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, CONVOLUTIONS)]


def _norms(network: nn.Module) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, NORMS)]


def _random(weights: Iterable[Tensor]) -> None:
    generator = torch.Generator().manual_seed(11)
    for weight in weights:
        weight.detach().copy_(0.3 * torch.rand(weight.shape, generator=generator) + 0.01)


def _copy(ours: nn.Module, theirs: nn.Module, skips: dict[int, int]) -> None:
    """MONAI's weights to ours; where MONAI puts the skip's channels first, we put them last."""
    pairs = zip(_convolutions(ours), _convolutions(theirs), strict=True)
    for n, (own, other) in enumerate(pairs):
        weight = other.weight.detach()
        own.weight.detach().copy_(torch.roll(weight, -skips.get(n, 0), dims=1))
        if own.bias is not None:
            own.bias.detach().copy_(other.bias if other.bias is not None else torch.zeros(1))
    for own, other in zip(_norms(ours), _norms(theirs), strict=True):
        own.load_state_dict(other.state_dict())


@BOTH
def test_voxelmorph(ndim: int) -> None:
    ours = VoxelMorph(
        VoxelMorphConfig(encoder=(4, 6, 8), decoder=(8, 7, 6, 5, 4, 3), output=FULL), ndim
    )
    theirs = monai_nets().VoxelMorphUNet(
        spatial_dims=ndim,
        in_channels=2,
        unet_out_channels=5,
        channels=(4, 6, 6, 7, 8, 8),
        final_conv_channels=(4, 3),
    )
    _random(theirs.parameters())
    # The second, third and fourth convolution of the decoder see a skip.
    _copy(ours, theirs, {4: 8, 5: 6, 6: 4})
    fixed, moving = _images(ndim)
    with torch.inference_mode():
        expected = theirs(torch.cat([fixed, moving], dim=1))
        torch.testing.assert_close(ours(fixed, moving), expected, rtol=1e-5, atol=1e-5)


def _require_same(ours: nn.Module, theirs: nn.Module, ndim: int) -> None:
    _random([*theirs.parameters(), *(part.running_var for part in _norms(theirs))])
    theirs.output_block.mode = "trilinear" if ndim == 3 else "bilinear"
    theirs.output_block.align_corners = False
    _copy(ours, theirs, {})
    fixed, moving = _images(ndim)
    with torch.inference_mode():
        expected = theirs.eval()(torch.cat([fixed, moving], dim=1))
        found = ours.eval()(fixed, moving)
    assert found.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@BOTH
@pytest.mark.parametrize("levels", [(0, 1, 2, 3), (0, 1, 3), (3, 1), (3,)])
@pytest.mark.parametrize("pooling", [True, False])
def test_deepreg_unet(ndim: int, levels: tuple[int, ...], pooling: bool) -> None:
    config = DeepRegUNetConfig(
        channels_initial=3,
        depth=3,
        extract_levels=levels,
        pooling=pooling,
        norm="batch",
        output=FULL,
    )
    theirs = monai_nets().RegUNet(
        spatial_dims=ndim,
        in_channels=2,
        num_channel_initial=3,
        depth=3,
        out_channels=ndim,
        extract_levels=levels,
        pooling=pooling,
    )
    _require_same(UNet(config, ndim), theirs, ndim)


@BOTH
def test_localnet(ndim: int) -> None:
    config = LocalNetConfig(
        channels_initial=2, depth=3, first_kernel_residual=True, norm="batch", output=FULL
    )
    theirs = monai_nets().LocalNet(
        spatial_dims=ndim,
        in_channels=2,
        num_channel_initial=2,
        extract_levels=(0, 1, 2, 3),
        out_channels=ndim,
        mode="trilinear" if ndim == 3 else "bilinear",
        align_corners=False,
    )
    _require_same(UNet(config, ndim), theirs, ndim)


def test_the_sum_of_levels_is_their_mean_times_their_number() -> None:
    config = LocalNetConfig(channels_initial=2, depth=2, norm="layer", output=FULL)
    mean, total = UNet(config, 2), UNet(config.model_copy(update={"combine": "sum"}), 2)
    _random(mean.parameters())
    total.load_state_dict(mean.state_dict())
    fixed, moving = _images(2)
    torch.testing.assert_close(total(fixed, moving), 3 * mean(fixed, moving))
