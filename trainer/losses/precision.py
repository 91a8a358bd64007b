"""Losses are computed in float32 whatever the network's precision is."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

Inputs = ParamSpec("Inputs")
HALF = (torch.float16, torch.bfloat16)


def full_precision(loss: Callable[Inputs, Tensor]) -> Callable[Inputs, Tensor]:
    """Run a loss outside autocast, half-precision arguments as float32; float64 stays.

    Local correlation is NaN in float16, and mutual information minus infinity.
    """

    @wraps(loss)
    def run(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Tensor:
        tensors = [a for a in args if isinstance(a, Tensor)]
        kind = tensors[0].device.type if tensors else "cpu"
        with torch.autocast(kind, enabled=False):
            return loss(*map(_full, args), **kwargs)  # type: ignore[arg-type]

    return run


def _full(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
