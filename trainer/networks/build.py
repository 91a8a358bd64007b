"""The network that a configuration names."""

from torch import nn

from trainer.config import NetworkConfig
from trainer.config.matching_networks import (
    CorrelationConfig,
    MatchingPyramidConfig,
    MetricConfig,
    PddConfig,
    PyramidConfig,
)
from trainer.config.networks import (
    ConditionalConfig,
    DeepRegUNetConfig,
    GlobalNetConfig,
    LocalNetConfig,
    VoxelMorphConfig,
)
from trainer.networks.conditional import Conditional
from trainer.networks.deepreg import UNet
from trainer.networks.globalnet import GlobalNet
from trainer.networks.learned_correlation import Correlation
from trainer.networks.matching_pyramid import MatchingPyramid
from trainer.networks.metric import MetricSearch
from trainer.networks.pdd import Pdd
from trainer.networks.pyramid import Pyramid
from trainer.networks.voxelmorph import VoxelMorph

_NETWORKS: dict[type, type[nn.Module]] = {
    VoxelMorphConfig: VoxelMorph,
    DeepRegUNetConfig: UNet,
    LocalNetConfig: UNet,
    GlobalNetConfig: GlobalNet,
    ConditionalConfig: Conditional,
    CorrelationConfig: Correlation,
    PddConfig: Pdd,
    PyramidConfig: Pyramid,
    MetricConfig: MetricSearch,
    MatchingPyramidConfig: MatchingPyramid,
}


def build_network(
    config: NetworkConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
) -> nn.Module:
    """An untrained network; torch's random numbers give its weights.

    It moves nothing yet, or next to nothing, unless it matches given descriptors.

    Args:
        config: Its kind and options.
        ndim: Spatial axes.
        channels: Of the fixed and the moving image.
    """
    return _NETWORKS[type(config)](config, ndim, channels)
