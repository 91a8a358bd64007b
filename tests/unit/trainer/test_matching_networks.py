"""Networks that match: sizes, identity before training, gradients, and what they can learn."""

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.config.matching_networks import (
    CorrelationConfig,
    MatchingNetworkConfig,
    PddConfig,
    PyramidConfig,
)

torch = pytest.importorskip("torch")

from trainer.networks.blocks import InstanceNorm  # noqa: E402
from trainer.networks.learned_correlation import Correlation  # noqa: E402
from trainer.networks.pdd import Pdd  # noqa: E402
from trainer.networks.pyramid import Pyramid  # noqa: E402
from trainer.spatial import upsample  # noqa: E402

ADAPTER = TypeAdapter(MatchingNetworkConfig)
BUILD = {"correlation": Correlation, "pdd": Pdd, "pyramid": Pyramid}
TINY = [
    {"kind": "correlation", "channels": [4, 6], "features": 5, "radius": 1},
    {"kind": "correlation", "channels": [4], "features": 5, "similarity": "dot", "iterations": 0},
    {"kind": "pdd", "channels": [4, 6], "features": 5, "radius": 1, "dilations": [1, 2]},
    {"kind": "pdd", "channels": [4], "features": 5, "radius": 1, "warps": 2, "control_stride": 4},
    {"kind": "pyramid", "channels": [4, 6, 8], "estimator": [6]},
    {"kind": "pyramid", "channels": [4, 6], "estimator": [6, 4], "residual": "velocity"},
    {"kind": "pyramid", "channels": [4, 6, 8], "output": {"kind": "velocity", "stride": 4}},
]


def _build(options: dict, ndim: int, channels: tuple[int, int] = (1, 1)):
    torch.manual_seed(0)
    config = ADAPTER.validate_python(options)
    return BUILD[config.kind](config, ndim, channels)


def _pair(size: list[int], channels: tuple[int, int] = (1, 1), batch: int = 2):
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(batch, c, *size, generator=generator) for c in channels]


@pytest.mark.parametrize("options", TINY)
@pytest.mark.parametrize(("ndim", "channels"), [(2, (1, 1)), (2, (2, 1)), (3, (1, 1))])
def test_an_untrained_network_of_any_size_is_close_to_the_identity(options, ndim, channels):
    network = _build(options, ndim, channels)
    for multiples in ((2, 3, 4), (4, 2, 3)):
        size = [network.multiple * n for n in multiples[:ndim]]
        with torch.no_grad():
            field = network(*_pair(size, channels))
        assert field.shape == (2, ndim, *(n // network.stride for n in size))
        assert field.abs().max() < 0.1  # voxels


@pytest.mark.parametrize("options", TINY)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_output_has_the_stride_that_was_asked_for(options, stride):
    output = options.get("output", {}) | {"stride": stride}
    network = _build(options | {"output": output}, 2)
    size = [4 * network.multiple, 2 * network.multiple]
    field = network(*_pair(size))
    assert (network.stride, list(field.shape[2:])) == (stride, [n // stride for n in size])


@pytest.mark.parametrize("options", TINY)
def test_every_weight_is_reached_by_the_gradient(options):
    network = _build(options, 2)
    field = network(*_pair([4 * network.multiple] * 2))
    (field * torch.randn_like(field)).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    assert sum(float(weight.grad.abs().sum()) for weight in network.parameters()) > 0


@pytest.mark.parametrize("options", TINY)
def test_the_smallest_image_can_be_trained_on(options):
    """Its coarsest level has a single cell, which torch's own instance normalisation refuses."""
    network = _build(options, 2).train()
    size = [network.multiple] * 2
    assert torch.isfinite(network(*_pair(size))).all()


@pytest.mark.parametrize("options", [TINY[0], TINY[2], TINY[4]])
def test_a_shift_is_learned(options):
    """Images moved by (4, -4) voxels: after some steps the field says so."""
    network = _build(options, 2)
    generator = torch.Generator().manual_seed(5)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    wanted = torch.tensor([4.0, -4.0]).reshape(1, 2, 1, 1)
    errors = []
    for _ in range(100):
        noise = torch.rand(2, 1, 12, 12, generator=generator)
        image = torch.nn.functional.interpolate(noise, scale_factor=4, mode="bilinear")
        fixed, moving = image[:, :, 8:40, 4:36], image[:, :, 4:36, 8:40]
        field = network(fixed, moving)
        error = (field - wanted)[:, :, 3:-3, 3:-3].norm(dim=1).mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert sum(errors[-10:]) / 10 < 32**0.5 / 2


@pytest.mark.parametrize("control_stride", [4, 8, 12])
def test_a_control_point_lies_amid_what_it_sees(control_stride):
    """On average over a cell, to whichever of its features the point is put."""
    network = _build(TINY[2] | {"control_stride": control_stride}, 2)
    _see_all(network)
    image, other = (part[:1].requires_grad_() for part in _pair([240, 24]))
    field, beside = upsample(network(image, other), network.stride, (240, 24))[0, 0, :, 12], []
    for place in range(120, 120 + control_stride):
        (slope,) = torch.autograd.grad(field[place], image, retain_graph=True)
        seen = slope.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
        assert seen[0] > 0
        assert seen[-1] < 239
        beside.append(float(seen[0] + seen[-1]) / 2 - place)
    assert sum(beside) / control_stride == pytest.approx(0)


def _see_all(network) -> None:
    """No weight hides what it is put on, and no place depends on the whole image."""
    for part in list(network.modules()):
        for name, child in part.named_children():
            if isinstance(child, InstanceNorm):
                setattr(part, name, torch.nn.Identity())
    with torch.no_grad():
        for weight in network.parameters():
            weight.abs_()


def test_strides_that_do_not_fit_are_told():
    with pytest.raises(ValidationError, match="control_stride must be a multiple of 4"):
        PddConfig(control_stride=6)
    with pytest.raises(ValidationError, match="displacement_step must be a multiple of 8"):
        PddConfig(channels=(4, 4, 4), control_stride=16)


def test_defaults_are_complete():
    for config in (CorrelationConfig(), PddConfig(), PyramidConfig()):
        assert ADAPTER.validate_python({"kind": config.kind}) == config
