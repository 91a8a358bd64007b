"""Networks that match give in onnxruntime what they give in torch, on sizes not traced."""

import pytest

torch = pytest.importorskip("torch")

from pydantic import BaseModel  # noqa: E402
from torch import nn  # noqa: E402

from trainer.config.matching_networks import (  # noqa: E402
    MatchingPyramidConfig,
    PddConfig,
)
from trainer.export_graph import Signature, export_graph, parity  # noqa: E402
from trainer.networks.build import build_network  # noqa: E402

# tests/unit/trainer/test_export.py exports the others, which takes as long again.
CASES = {
    "pdd": (PddConfig(channels=(4,), features=3, radius=1, control_stride=4, warps=2), 2, 0.5),
    "matching-pyramid": (MatchingPyramidConfig(features=(13, 13), widths=(2, 3)), 3, 0.01),
}


def _shaken(config: BaseModel, ndim: int, std: float) -> nn.Module:
    """Every weight moved: untrained networks move nothing."""
    torch.manual_seed(4)
    network = build_network(config, ndim)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(std * torch.randn_like(weight))
    return network.eval()


@pytest.mark.parametrize("case", sorted(CASES))
def test_onnxruntime_equals_torch_on_two_shapes(case: str) -> None:
    config, ndim, std = CASES[case]
    network = _shaken(config, ndim, std)
    multiple = int(network.multiple)
    signature = Signature("displacement", ndim, multiple)
    graph = export_graph(network, signature, (3, 2, 4)[:ndim])
    for shape in ((2, 4, 3), (5, 3, 2)):
        size = [multiple * n for n in shape[:ndim]]
        with torch.no_grad():
            assert network(torch.rand(1, 1, *size), torch.rand(1, 1, *size)).abs().max() > 0.01
        assert parity(network, graph, size, signature) < 1e-4
