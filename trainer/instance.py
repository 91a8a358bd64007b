"""One pair's field optimised with the trainer's losses, in torch: a reference, not a tool.

The service improves a field with its own kernels (`service.registration.refine`); this shows in
few lines what those do, with any loss, and a parity test compares them.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trainer.spatial import integrate, warp

Cost = Callable[[Tensor, Tensor], Tensor]


def optimise(
    moving: Tensor,
    start: Tensor,
    cost: Cost,
    *,
    kind: Literal["displacement", "velocity"] = "displacement",
    steps: int = 100,
    learning_rate: float = 0.1,
) -> Tensor:
    """The field that Adam reaches from `start` by making cost(warped, displacement) small.

    Args:
        moving: (b, c, *s).
        start: (b, d, *s), voxels: a displacement, or a velocity that is integrated at each step.
        cost: Gives a scalar for the warped image and the displacement, both at full resolution;
            a sum of losses.
        kind: What `start`, and the result, are.
        steps: Of Adam.
        learning_rate: Voxels of the first steps.

    Returns:
        Of the kind and shape of `start`, at the lowest cost that was met.
    """
    field = start.detach().clone().requires_grad_()
    adam = torch.optim.Adam([field], learning_rate)
    best, lowest = start.detach().clone(), float("inf")
    for _ in range(steps):
        u = field if kind == "displacement" else integrate(field)
        found = cost(warp(moving, u), u)
        if found.item() < lowest:
            best, lowest = field.detach().clone(), found.item()
        adam.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return best
