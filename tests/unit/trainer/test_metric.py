"""The search with a learned metric: the discrete model at first; what a fit makes of it."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer.checkpoint import BEST, load_weights  # noqa: E402
from trainer.config import parse_config  # noqa: E402
from trainer.config.matching_networks import MetricConfig  # noqa: E402
from trainer.metric_fit import SUMS, Moments, fit  # noqa: E402
from trainer.networks.discrete import Discrete  # noqa: E402
from trainer.networks.metric import COARSE, FINE, MetricSearch, descriptors  # noqa: E402
from trainer.networks.mind import CHANNELS, mind_ssc  # noqa: E402
from trainer.synth import SyntheticPairs  # noqa: E402

CONFIG = parse_config(
    {
        "name": "tiny",
        "data": {
            "format": "none",
            "synthetic": "shapes",
            "labels": "required",
            "grid": {"shape": [24, 32, 24]},
        },
        "synth": {"shapes": {"labels": 6, "node_mm": [6, 10]}, "body": 0.5, "foreign": 0.5},
        "network": {"kind": "metric", "features": [14, 16]},
        "losses": {"label": [{"kind": "dice"}]},
    }
)


def _image(seed: int, size: tuple[int, ...] = (24, 32, 24)):
    noise = torch.rand(1, 1, *(n // 4 for n in size), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=size, mode="trilinear")


def test_descriptors_begin_with_mind_and_have_their_sizes():
    image = _image(1)[0, 0]
    fine, coarse = descriptors(image)
    assert fine.shape == (FINE, 12, 16, 12)
    assert coarse.shape == (COARSE, 6, 8, 6)
    assert torch.equal(fine[:CHANNELS], mind_ssc(image))


def test_before_training_it_is_the_discrete_model():
    torch.manual_seed(2)
    fixed, moving = _image(1), torch.roll(_image(1), 2, 3)
    with torch.no_grad():
        found = MetricSearch(MetricConfig())(fixed, moving)
        assert (found - Discrete()(fixed, moving)).abs().max() < 0.1
        assert found.abs().max() > 1


def test_slices_are_refused():
    with pytest.raises(ValueError, match="three axes"):
        MetricSearch(MetricConfig(), 2)


def test_a_fit_goes_on_where_it_stopped(tmp_path: Path):
    with torch.no_grad():
        whole = fit(CONFIG, tmp_path / "whole", 6)
        fit(CONFIG, tmp_path / "parts", 3)
        parts = fit(CONFIG, tmp_path / "parts", 6)
    assert Moments.load(tmp_path / "parts" / SUMS).pairs == 6
    torch.testing.assert_close(parts.fine, whole.fine)
    again = MetricSearch(CONFIG.network)
    load_weights(tmp_path / "whole" / "checkpoints" / BEST, again)
    torch.testing.assert_close(again.coarse, whole.coarse)


def test_a_fitted_metric_tells_true_places_from_wrong_ones(tmp_path: Path):
    """On pairs that it was not fitted on: the true place is nearer, more often than by chance."""
    with torch.no_grad():
        network = fit(CONFIG, tmp_path, 12)
        moments, source = Moments(), SyntheticPairs(CONFIG.synth, (24, 32, 24), (1, 1, 1), 77)
        for number in range(4):
            moments.add(source.draw(number), torch.Generator().manual_seed(number))
    for weights, true, wrong in zip(
        (network.fine, network.coarse), moments.true, moments.wrong, strict=True
    ):
        rows = weights.double()
        learned = rows[CHANNELS:]
        gain = [(r @ wrong @ r.T).trace() / (r @ true @ r.T).trace() for r in (learned, rows)]
        assert gain[0] > 1.1


def test_bodies_end_in_background():
    synth = CONFIG.synth.model_copy(update={"body": 1.0, "foreign": 0.0})
    with_body = SyntheticPairs(synth, (24, 32, 24), (1, 1, 1), 3).draw(0)
    assert 0.2 < (with_body.fixed_labels == 0).float().mean() < 0.8
