"""Costs of displacements made to agree: min-convolution, mean-field averaging, expectation.

A cost volume is (b, w**d, *s): for every cell of a grid the cost of every displacement in a window
of w along each axis.

Source: Heinrich, Closing the Gap between Deep and Conventional Image Registration using
Probabilistic Dense Displacement Networks, MICCAI 2019; the discrete tutorial of Learn2Reg 2019.
"""

import torch
from torch import Tensor, nn

from trainer.networks.spread import along_each, triangle

# Of the soft minimum at the start. Features start small, so that costs do and all displacements
# are as likely: an untrained network is close to the identity.
SHARPNESS = 10.0


def min_convolution(cost: Tensor, width: int, ndim: int) -> Tensor:
    """For every displacement the lower envelope of its neighbours' costs, smoothed.

    The minimum of three along each axis of the window, then the mean of three, twice: close to
    min over e of cost(e) + a parabola of |d - e|, at a fixed price for any window. The edge costs
    go on by three displacements before the minimum is taken.

    Args:
        cost: (b, w**d, *s).
        width: w.
        ndim: d.
    """
    lead, cells = cost.shape[0], cost.shape[2:]
    volume = cost.reshape(lead, *[width] * ndim, -1)
    for axis in range(1, ndim + 1):
        volume = _lower(volume, axis)
    for axis in range(1, ndim + 1):
        volume = _average(volume, axis)
    return volume.reshape(lead, width**ndim, *cells)


def _lower(volume: Tensor, axis: int) -> Tensor:
    """The minimum of three along an axis extended by three edge values: w to w + 4."""
    count = volume.shape[axis]
    first, last = volume.narrow(axis, 0, 1), volume.narrow(axis, count - 1, 1)
    longer = torch.cat([first] * 3 + [volume] + [last] * 3, dim=axis)
    near = torch.minimum(longer.narrow(axis, 0, count + 4), longer.narrow(axis, 2, count + 4))
    return torch.minimum(near, longer.narrow(axis, 1, count + 4))


def _average(volume: Tensor, axis: int) -> Tensor:
    """The mean of three, twice, where both are whole: w + 4 to w, weights 1, 2, 3, 2, 1."""
    count = volume.shape[axis] - 4
    step = torch.arange(count + 4, device=volume.device)[None]
    step = step - torch.arange(count, device=volume.device)[:, None] - 2
    weights = ((3 - step.abs()).clamp(min=0) / 9).to(volume.dtype)
    flat = volume.flatten(0, axis - 1).flatten(2)
    return torch.matmul(weights, flat).reshape(
        *volume.shape[:axis], count, *volume.shape[axis + 1 :]
    )


class MeanField(nn.Module):
    """The expected displacement of every cell, neighbours in agreement.

    Each round replaces the costs by the neighbours' mean of their min-convolution; from the second
    on, of data * the given costs + smooth * those of the round before. The neighbours' mean is that
    of three cells along each axis, twice. Probabilities are the softmax of -sharpness * costs.
    """

    steps: Tensor

    def __init__(self, steps: Tensor, iterations: int, *, trainable: bool) -> None:
        """Make the layer.

        Args:
            steps: (w**d, d) displacements in the units wanted.
            iterations: Rounds; 0 leaves the softmax of the costs alone.
            trainable: Whether data, smooth and sharpness are learned.
        """
        super().__init__()
        self.register_buffer("steps", steps, persistent=False)
        count, self.ndim = steps.shape
        self.width: int = round(count ** (1 / self.ndim))
        self.iterations = iterations
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS), trainable)
        if iterations > 1:  # rows: data, smooth
            self.weights = nn.Parameter(torch.ones(2, iterations - 1), trainable)

    def forward(self, cost: Tensor) -> Tensor:
        """(b, w**d, *s) costs to (b, d, *s) displacements."""
        smoother = [triangle(n, cost) for n in cost.shape[2:]]
        agreed = cost
        for turn in range(self.iterations):
            if turn:
                data, smooth = self.weights[:, turn - 1]
                agreed = data * cost + smooth * agreed
            agreed = along_each(min_convolution(agreed, self.width, self.ndim), smoother)
        return expectation(-self.sharpness * agreed, self.steps)


def expectation(logits: Tensor, steps: Tensor) -> Tensor:
    """The mean displacement under softmax(logits) over the window, (b, d, *s)."""
    shares = torch.softmax(logits, dim=1).flatten(2)
    mean = torch.matmul(steps.T, shares)
    return mean.reshape(logits.shape[0], steps.shape[1], *logits.shape[2:])
