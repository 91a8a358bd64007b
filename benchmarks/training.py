"""One training step, ours beside one made of MONAI's and one of VoxelMorph-torch's parts.

    python -m benchmarks.training [--size 96 112 96] [--network half|full] [--repeats 5]

The same U-Net with the same weights in each: VoxelMorph's, whose velocity is at `half` resolution
(the decoder stops there) or at the images' own (`full`). Seven squarings, growth to full
resolution, warp, local correlation with a window of 9, squared gradient of the velocity, and
backwards; no optimiser. Losses are compared before anything is timed. What differs by definition:
how the half-resolution field is grown (ours by physical position, theirs corner on corner), and
the border of sampling. Freed memory is kept by the process, as our trainer does, for all of them;
`--plain-memory` leaves that out. Figures are medians; rounds alternate. On a machine that others
use, `--cpu-time` with one thread counts the process's own time. Needs the extra `peers`.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numba
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from benchmarks.kernels import show
from trainer.config.networks import OutputConfig, VoxelMorphConfig
from trainer.losses.correlation import lncc
from trainer.losses.field import Difference, gradient
from trainer.memory import keep_freed_memory
from trainer.networks.voxelmorph import VoxelMorph
from trainer.spatial import integrate, upsample, warp

WEIGHT = 1.0  # of the gradient
STEPS = 7
MONAI, VOXELMORPH = "MONAI 1.6", "VoxelMorph-torch 0.3"
# Relative; the correlation follows fields that differ as the docstring says.
TOLERANCE = {"correlation": 0.02, "gradient": 1e-3}
VELOCITY_VOXELS = 0.2  # standard deviation of the untrained network's velocity

Images = tuple[Tensor, Tensor]
Found = tuple[Tensor, Tensor]  # correlation loss and gradient loss


@dataclass
class Step:
    """A network and what is made of its output."""

    network: nn.Module
    losses: Callable[[Tensor, Images], Found]
    precision: torch.dtype = torch.float32

    def __call__(self, images: Images) -> Found:
        """Forward, losses, backward; gradients start from nothing, as in training."""
        self.network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32):
            velocity = self.network(*images)
        correlation, roughness = self.losses(velocity.float(), images)
        (correlation + WEIGHT * roughness).backward()
        return correlation.detach(), roughness.detach()


class PeerUNet(nn.Module):
    """VoxelMorph's U-Net of a library's own convolution block and doubling."""

    def __init__(
        self,
        block: Callable[[int, int], nn.Module],
        doubling: Callable[[int], nn.Module],
        finest: int,
    ) -> None:
        super().__init__()
        encoder, ways = (16, 32, 32, 32), (32, 32, 32, 32, 32, 16, 16)
        self.encoder = nn.ModuleList(block(a, b) for a, b in pairwise((2, *encoder)))
        self.bottom, width = block(encoder[-1], ways[0]), ways[0]
        self.decoder, self.doubling = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(finest, 4)):
            self.doubling.append(doubling(width))
            self.decoder.append(block(width + encoder[level], ways[4 - level]))
            width = ways[4 - level]
        rest = (width, *ways[4 + (finest == 0) :])
        self.rest = nn.Sequential(*(block(a, b) for a, b in pairwise(rest)))
        self.flow = nn.Conv3d(rest[-1], 3, 3, padding=1)
        self.pool = nn.MaxPool3d(2)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        values, skips = torch.cat([fixed, moving], dim=1), []
        for step in self.encoder:
            skips.append(step(values))
            values = self.pool(skips[-1])
        values = self.bottom(values)
        for double, step in zip(self.doubling, self.decoder, strict=True):
            values = step(torch.cat([double(values), skips.pop()], dim=1))
        flow: Tensor = self.flow(self.rest(values))
        return flow


def our_network(stride: int, images: Images) -> nn.Module:
    """With weights that give a velocity of VELOCITY_VOXELS; an untrained one gives none."""
    output = OutputConfig(kind="velocity", stride=stride)
    network = VoxelMorph(VoxelMorphConfig(output=output))
    flow = convolutions(network)[-1]
    nn.init.normal_(flow.weight)
    with torch.no_grad():
        flow.weight.mul_(VELOCITY_VOXELS / network(*images).std())
    return network


def ours(network: nn.Module, stride: int, difference: Difference) -> Step:
    """Our losses, set to the definitions that the others have."""
    cells_mm = (float(stride),) * 3

    def losses(velocity: Tensor, images: Images) -> Found:
        fixed, moving = images
        u = upsample(integrate(velocity, STEPS, stride), stride, fixed.shape[2:])
        roughness = gradient(velocity / stride, spacing_mm=cells_mm, difference=difference)
        return lncc(fixed, warp(moving, u), border="zeros"), roughness

    return Step(network, losses)


def of_monai(stride: int) -> Step:
    from monai.losses import DiffusionLoss, LocalNormalizedCrossCorrelationLoss
    from monai.networks.blocks import DVF2DDF, Convolution, UpSample, Warp

    leaky = ("leakyrelu", {"negative_slope": 0.2, "inplace": True})

    def block(inputs: int, outputs: int) -> nn.Module:
        return Convolution(3, inputs, outputs, kernel_size=3, act=leaky, norm=None)

    def doubling(channels: int) -> nn.Module:
        return UpSample(
            3, channels, channels, 2, mode="nontrainable", interp_mode="nearest", align_corners=None
        )

    to_displacement, warping = DVF2DDF(STEPS), Warp(padding_mode="zeros")
    correlation, diffusion = LocalNormalizedCrossCorrelationLoss(3, 9), DiffusionLoss()

    def losses(velocity: Tensor, images: Images) -> Found:
        u = grown(to_displacement(velocity / stride), stride)
        return correlation(warping(images[1], u), images[0]), diffusion(velocity / stride)

    return Step(PeerUNet(block, doubling, stride // 2), losses)


def of_voxelmorph(stride: int) -> Step:
    import voxelmorph as vxm
    from neurite.nn.modules import NCC, ConvBlock, SpatialGradient

    def block(inputs: int, outputs: int) -> nn.Module:
        return ConvBlock(3, inputs, outputs, activation=nn.LeakyReLU(0.2), order="ca")

    def doubling(_channels: int) -> nn.Module:
        return nn.Upsample(scale_factor=2, mode="nearest")

    to_displacement = vxm.nn.modules.IntegrateVelocityField(steps=STEPS)
    resize = vxm.nn.modules.ResizeDisplacementField(float(stride))
    warping, correlation, steepness = vxm.nn.modules.SpatialTransformer(), NCC(9), SpatialGradient()

    def losses(velocity: Tensor, images: Images) -> Found:
        u = to_displacement(velocity / stride)
        u = resize(u) if stride > 1 else u
        found = correlation(warping(images[1], u), images[0]).mean()
        return -found, 3 * steepness(velocity / stride)  # theirs is the mean over axes

    return Step(PeerUNet(block, doubling, stride // 2), losses)


def grown(u: Tensor, stride: int) -> Tensor:
    """As MONAI's `VoxelMorph` grows a half-resolution field."""
    if stride == 1:
        return u
    return F.interpolate(u * stride, scale_factor=stride, mode="trilinear", align_corners=True)


def convolutions(network: nn.Module) -> list[nn.Conv3d]:
    return [part for part in network.modules() if isinstance(part, nn.Conv3d)]


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    pairs = zip(convolutions(source), convolutions(target), strict=True)
    with torch.no_grad():
        for one, other in pairs:
            other.weight.copy_(one.weight)
            other.bias.copy_(one.bias)


def make_images(size: list[int]) -> Images:
    """Two smooth random images, alike, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 1, *[n + 12 for n in size], generator=generator)
    smooth = F.avg_pool3d(F.avg_pool3d(noise, 7, 1), 7, 1)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return smooth[:1], 0.7 * smooth[:1] + 0.3 * smooth[1:]


def check(name: str, mine: Found, theirs: Found) -> None:
    """Stop unless the losses are the same up to what differs by definition."""
    for (what, most), a, b in zip(TOLERANCE.items(), mine, theirs, strict=True):
        off = abs(a.item() - b.item())
        print(f"  {what} loss: ours {a.item():.5f}, {name} {b.item():.5f}")
        if off > most * abs(b.item()):
            raise SystemExit(f"{what} differs by {off}")


def medians_ms(
    timed: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median milliseconds of each, taken in turns after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(repeats + 1):
        for name, work in timed.items():
            start = clock()
            work()
            if turn:
                taken[name].append(1e3 * (clock() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=[96, 112, 96])
    parser.add_argument("--network", choices=["half", "full"], default="half")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="in place of the time passed")
    parser.add_argument(
        "--plain-memory", action="store_true", help="leave out what our trainer tells malloc"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.plain_memory:
        keep_freed_memory()
    torch.set_num_threads(options.threads)
    numba.set_num_threads(options.threads)
    torch.manual_seed(0)
    stride = 2 if options.network == "half" else 1
    images = make_images(options.size)
    network = our_network(stride, images)
    mine = ours(network, stride, "central")
    mixed = Step(network, mine.losses, torch.bfloat16)
    peers = {MONAI: of_monai(stride), VOXELMORPH: of_voxelmorph(stride)}
    for step in peers.values():
        copy_weights(network, step.network)
    check(MONAI, mine(images), peers[MONAI](images))
    check(VOXELMORPH, ours(network, stride, "forward")(images), peers[VOXELMORPH](images))
    steps = {"ours, float32": mine, **peers, "ours, bfloat16 network": mixed}
    timed = {name: lambda step=step: step(images) for name, step in steps.items()}
    clock = time.process_time if options.cpu_time else time.perf_counter
    show(f"{options.network}, {options.size}", medians_ms(timed, options.repeats, clock))


if __name__ == "__main__":
    main()
