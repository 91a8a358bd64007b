"""Fit a learned metric in one pass: `python -m trainer.metric_fit universal --out RUN --pairs 400`.

At true correspondences of synthetic pairs, descriptors differ by noise, contrast and what only one
image has; at wrong ones, by more. With W and T the second moments of both differences, the log of
the likelihood ratio of two normal distributions is half of d' (W^-1 - T^-1) d: that is the metric,
and its largest directions are the features. Sums are kept in RUN: calling again with more pairs
goes on from there. RUN is then a training's folder: `python -m trainer.export RUN` makes the model,
and `warpline train CONFIG --start-from` trains it further.

Source: Köstinger et al., Large Scale Metric Learning from Equivalence Constraints, CVPR 2012.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.checkpoint import Position, save_best
from trainer.config import TrainConfig, read_config
from trainer.config.matching_networks import MatchingPyramidConfig, MetricConfig
from trainer.config.recipes import found
from trainer.networks.discrete import DiscreteConfig
from trainer.networks.matching_pyramid import MatchingPyramid
from trainer.networks.metric import COARSE, FINE, MetricSearch, descriptors
from trainer.networks.mind import CHANNELS
from trainer.networks.pull import pull
from trainer.running import CONFIG, use_threads, write_config
from trainer.synth import SyntheticPair, SyntheticPairs

SUMS = "metric.safetensors"
# Cells drawn from a pair for each search, and how far off wrong places are, in cells.
SAMPLED = 1500
OFF = (1.5, 3.0)
STRIDES = (2, 4)
# Share of the mean that is added to the spread in each direction at true correspondences.
RIDGE = 1e-3


class Moments:
    """Second moments of differences, of the fine and the coarse search; doubles."""

    def __init__(self) -> None:
        self.pairs = 0
        self.count = torch.zeros(2, dtype=torch.float64)
        self.true = [torch.zeros(n, n, dtype=torch.float64) for n in (FINE, COARSE)]
        self.wrong = [torch.zeros(n, n, dtype=torch.float64) for n in (FINE, COARSE)]

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        told = {"pairs": torch.tensor([self.pairs]), "count": self.count}
        for n in range(2):
            told |= {f"true{n}": self.true[n], f"wrong{n}": self.wrong[n]}
        part = path.with_suffix(".part")
        save_file(told, part)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Moments":
        """Those of an earlier call; none if there is no file."""
        moments = cls()
        if path.is_file():
            told = load_file(path)
            moments.pairs, moments.count = int(told["pairs"][0]), told["count"]
            moments.true = [told[f"true{n}"] for n in range(2)]
            moments.wrong = [told[f"wrong{n}"] for n in range(2)]
        return moments

    def add(self, pair: SyntheticPair, draw: torch.Generator) -> None:
        """Take in the differences of one pair, whose displacement is known."""
        if pair.displacement is None:
            raise ValueError("a pair of two maps has no known displacement")
        sides = zip(descriptors(pair.fixed[0]), descriptors(pair.moving[0]), strict=True)
        for n, (fixed, moving) in enumerate(sides):
            field = F.avg_pool3d(pair.displacement[None], STRIDES[n])[0] / STRIDES[n]
            cells = _inside(field).flatten().nonzero()[:, 0]
            cells = cells[torch.randperm(len(cells), generator=draw)[:SAMPLED]]
            for sums, places in ((self.true, field), (self.wrong, _off(field, OFF[n], draw))):
                apart = (pull(moving, places) - fixed).flatten(1)[:, cells].double()
                sums[n] += apart @ apart.T
            self.count[n] += len(cells)
        self.pairs += 1

    def weights(self, config: MetricConfig | MatchingPyramidConfig) -> list[Tensor]:
        """The matrices of both searches: MIND-SSC as it is, then the metric's directions."""
        both = []
        for n, features in enumerate(config.features):
            true, wrong = self.true[n] / self.count[n], self.wrong[n] / self.count[n]
            learned = _metric(true, wrong, features - CHANNELS)
            plain = torch.eye(CHANNELS, learned.shape[1])
            both.append(torch.cat([config.plain**0.5 * plain, config.firmness**0.5 * learned]))
        return both


def _off(field: Tensor, reach: float, draw: torch.Generator) -> Tensor:
    """Other places, a third of `reach` to all of it away along each axis."""
    side = torch.randint(0, 2, field.shape, generator=draw) * 2 - 1
    return field + reach * side * (0.35 + 0.65 * torch.rand(field.shape, generator=draw))


def _inside(field: Tensor) -> Tensor:
    """Whether x + u(x) lies on the grid, (*s)."""
    inside = torch.ones(field.shape[1:], dtype=torch.bool)
    for axis, count in enumerate(field.shape[1:]):
        shape = [1, 1, 1]
        shape[axis] = -1
        ends = torch.arange(count).reshape(shape) + field[axis]
        inside &= (ends >= 0) & (ends <= count - 1)
    return inside


def _metric(true: Tensor, wrong: Tensor, features: int) -> Tensor:
    """L (features, n) with sharpness |L d|**2 = d' (W^-1 - T^-1) d / 2, as far as it reaches."""
    size = len(true)
    true = true + RIDGE * true.trace() / size * torch.eye(size, dtype=true.dtype)
    spreads, axes = torch.linalg.eigh(true)
    whiten = axes @ torch.diag(spreads**-0.5) @ axes.T
    ratios, directions = torch.linalg.eigh(whiten @ wrong @ whiten)
    ratios, directions = ratios.flip(0)[:features], directions.flip(1)[:, :features]
    gains = (1 - 1 / ratios).clamp(min=0).sqrt()
    rows = gains[:, None] * (directions.T @ whiten)
    metric: Tensor = (rows / (2 * DiscreteConfig().sharpness) ** 0.5).float()
    return metric


def fit(config: TrainConfig, out: Path, pairs: int) -> MetricSearch | MatchingPyramid:
    """Draw pairs up to a number, fit, and write the weights into a training's folder."""
    grid, shape = config.data.grid, config.data.grid.shape
    if not isinstance(config.network, MetricConfig | MatchingPyramidConfig) or shape is None:
        raise ValueError("a fit needs a network with a metric and data.grid.shape")
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    write_config(config, out / CONFIG)
    source = SyntheticPairs(config.synth, shape, (grid.spacing_mm,) * 3, config.seed)
    moments = Moments.load(out / SUMS)
    while moments.pairs < pairs:
        draw = torch.Generator().manual_seed(moments.pairs)
        moments.add(source.draw(moments.pairs), draw)
        if moments.pairs % 50 == 0 or moments.pairs == pairs:
            moments.save(out / SUMS)
            sys.stdout.write(f"{moments.pairs} of {pairs} pairs\n")
            sys.stdout.flush()
    network: MetricSearch | MatchingPyramid
    if isinstance(config.network, MetricConfig):
        network = MetricSearch(config.network)
    else:
        network = MatchingPyramid(config.network)
    network.put(*moments.weights(config.network))
    save_best(out / "checkpoints", network, Position(configuration=config.digest()))
    return network


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.metric_fit", description=__doc__)
    parser.add_argument("config", help="a recipe or a file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    parser.add_argument("--pairs", type=int, default=400, help="synthetic pairs in all")
    parser.add_argument("--threads", type=int, help="CPU threads; by default all cores")
    chosen: Any = parser.parse_args(arguments)
    use_threads(chosen.threads or torch.get_num_threads())
    with torch.no_grad():
        fit(read_config(found([chosen.config])), chosen.out, chosen.pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
