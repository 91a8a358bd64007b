"""The pyramid of searches: what it does untrained, what it learns from, and what a fit gives it."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer.checkpoint import BEST, load_weights  # noqa: E402
from trainer.config import parse_config  # noqa: E402
from trainer.config.matching_networks import MatchingPyramidConfig  # noqa: E402
from trainer.metric_fit import fit  # noqa: E402
from trainer.networks.build import build_network  # noqa: E402
from trainer.networks.matching_pyramid import MatchingPyramid  # noqa: E402
from trainer.spatial import jacobian_determinant  # noqa: E402
from trainer.synth import SyntheticPairs  # noqa: E402

SIZE = (32, 32, 32)
CONFIG = parse_config(
    {
        "name": "tiny",
        "data": {
            "format": "none",
            "synthetic": "shapes",
            "labels": "required",
            "grid": {"shape": list(SIZE)},
        },
        "synth": {
            "shapes": {"labels": 12, "node_mm": [6, 10]},
            "field": {"strength_mm": 1.5, "node_mm": [16, 24]},
            "image": {"crop_probability": 0, "slices_probability": 0},
        },
        "network": {"kind": "matching-pyramid", "features": [14, 16], "widths": [4, 4]},
        "losses": {"field": [{"kind": "known-displacement", "where": "everywhere"}]},
    }
)


def _texture(seed: int):
    draw = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 1, *(n // 3 for n in SIZE), generator=draw)
    return torch.nn.functional.interpolate(noise, size=SIZE, mode="trilinear")


def _network(seed: int = 2) -> MatchingPyramid:
    torch.manual_seed(seed)
    return MatchingPyramid(MatchingPyramidConfig())


def test_untrained_it_finds_a_shift():
    fixed = _texture(1)
    moving = torch.roll(fixed, 4, 3)  # moving(x + 4 along j) = fixed(x)
    with torch.no_grad():
        found = _network()(fixed, moving)[..., 4:-4, 4:-4, 4:-4]
    assert found.shape[1] == 3
    means = found.mean(dim=(0, 2, 3, 4))
    assert 2.5 < float(means[1]) < 5
    assert means[[0, 2]].abs().max() < 1


def test_pairs_of_a_batch_do_not_mix():
    fixed, moving = torch.cat([_texture(1), _texture(2)]), torch.cat([_texture(3), _texture(2)])
    network = _network()
    with torch.no_grad():
        together = network(fixed, moving)
        for n in range(2):
            alone = network(fixed[n : n + 1], moving[n : n + 1])
            torch.testing.assert_close(together[n : n + 1], alone, atol=1e-4, rtol=0)


def test_what_describes_the_fixed_image_does_not_depend_on_the_moving_one():
    here = _network().described(_texture(1))
    assert [tuple(cells.shape[1:]) for cells in here] == [
        (24, 16, 16, 16), (32, 8, 8, 8),
    ]  # fmt: skip


def test_slices_are_refused():
    with pytest.raises(ValueError, match="three axes"):
        MatchingPyramid(MatchingPyramidConfig(), 2)


def test_a_fit_gives_it_the_metric_that_it_begins_with(tmp_path: Path):
    with torch.no_grad():
        fitted = fit(CONFIG, tmp_path, 3)
    network = build_network(CONFIG.network)
    load_weights(tmp_path / "checkpoints" / BEST, network)
    torch.testing.assert_close(network.coarse, fitted.coarse)
    assert not torch.equal(network.fine[:, :12], torch.eye(14, 12))


def test_every_weight_learns_and_the_distance_from_the_truth_falls():
    source = SyntheticPairs(CONFIG.synth, SIZE, (1, 1, 1), 5)
    pairs = [source.draw(n) for n in range(2)]
    fixed, moving, true = (
        torch.stack([getattr(pair, name) for pair in pairs])
        for name in ("fixed", "moving", "displacement")
    )
    true = torch.nn.functional.avg_pool3d(true, 2)
    network = build_network(CONFIG.network)
    optimiser, losses = torch.optim.Adam(network.parameters(), 1e-2), []
    for _ in range(16):
        optimiser.zero_grad()
        found = network(fixed, moving)
        losses.append((found - true).norm(dim=1).mean())
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(weight.grad.abs().max() > 0 for weight in network.parameters())
    assert (jacobian_determinant(found.detach() / 2) > 0).float().mean() > 0.95
