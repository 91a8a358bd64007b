"""Trained networks become model folders that the service runs: what torch says, the engine says."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from service.errors import ConflictError, ModelInvalidError  # noqa: E402
from service.registration.card import Card, Figure  # noqa: E402
from service.registration.fields import Affine  # noqa: E402
from service.registration.grid import Grid  # noqa: E402
from service.registration.models_folder import ModelFolder  # noqa: E402
from service.registration.volume import Volume  # noqa: E402
from trainer.config import TrainConfig, parse_config  # noqa: E402
from trainer.export import export_model, parity_shapes, prepare_export, signature_of  # noqa: E402
from trainer.networks.build import build_network  # noqa: E402
from trainer.networks.conditional import Conditional  # noqa: E402
from trainer.networks.globalnet import GlobalNet  # noqa: E402
from trainer.networks.voxelmorph import VoxelMorph  # noqa: E402

VOXELMORPH = {"kind": "voxelmorph", "encoder": [4, 4], "decoder": [4, 4, 4]}
FIGURE = Figure(data="two pairs", pairs=2, metric="Dice", before=0.4, after=0.6, how="alone")


def _config(network: dict[str, object], ndim: int = 3, **data: object) -> TrainConfig:
    losses = {"label": [{"kind": "dice"}]}
    return parse_config(
        {
            "name": "tiny",
            "data": {
                "root": "somewhere/private",
                "labels": "required",
                "grid": {"ndim": ndim, "spacing_mm": 2.0, "shape": [16, 24, 12][:ndim]},
                "initialise": "centre",
                "intensity": {"rule": "none"},
                **data,
            },
            "network": network,
            "losses": losses,
            "card": {"licence": "Apache-2.0", "data_statement": "Noise.", "anatomy": ["none"]},
        }
    )


def _awake(network: torch.nn.Module) -> torch.nn.Module:
    """Output layers start at zero; these say something."""
    torch.manual_seed(3)
    for parameter in network.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.02)
    return network


def _shaken(network: torch.nn.Module, std: float) -> torch.nn.Module:
    """Every weight moved: untrained networks move nothing."""
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(std * torch.randn_like(weight))
    return network


def _pair(ndim: int) -> tuple[Volume, Volume]:
    """On the model grid itself, so that nothing is resampled and torch can be asked."""
    shape = (14, 21, 12 if ndim == 3 else 1)
    grid = Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    rng = np.random.default_rng(5)
    fixed, moving = (Volume(rng.random(shape, np.float32), grid) for _ in range(2))
    return fixed, moving


def _padded(volume: Volume, ndim: int, multiple: int = 4, mode: str = "edge") -> torch.Tensor:
    data = volume.data.astype(np.float32).reshape(volume.data.shape[:ndim])
    padded = np.pad(data, [(0, -n % multiple) for n in data.shape], mode=mode)
    return torch.from_numpy(padded)[None, None]


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_field_that_is_served_is_the_networks(ndim: int, tmp_path: Path) -> None:
    output = {"kind": "displacement", "stride": 2}
    config = _config({**VOXELMORPH, "output": output}, ndim)
    network = _awake(VoxelMorph(config.network, ndim)).eval()
    folder = export_model(network, config, tmp_path, figures=(FIGURE,))
    fixed, moving = _pair(ndim)
    field = (
        ModelFolder(tmp_path, provider="cpu", threads=1)
        .load("tiny")
        .predict(fixed, moving, Affine.identity())
    )
    with torch.inference_mode():
        u = network(_padded(fixed, ndim), _padded(moving, ndim))[0].numpy()
    cells = field.grid.shape[:ndim]
    expected = 2.0 * np.moveaxis(u, 0, -1)[tuple(slice(n) for n in cells)]
    np.testing.assert_allclose(
        field.vectors_mm[..., :ndim].reshape(expected.shape), expected, atol=2e-4
    )
    assert np.abs(expected).max() > 1e-2, "the network says nothing"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "card.json", "model.onnx", "train.yaml",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "shaken"),
    [
        pytest.param(
            {"kind": "localnet", "channels_initial": 2, "depth": 2,
             "output": {"control_spacing": 4}}, 0.02, id="localnet",
        ),
        pytest.param(
            {"kind": "correlation", "channels": [4, 4], "features": 3, "radius": 1}, 0.5,
            id="correlation",
        ),
        pytest.param(
            {"kind": "pyramid", "channels": [3, 4], "estimator": [4]}, 0.05, id="pyramid"
        ),
    ],
)  # fmt: skip
def test_every_kind_of_network_can_be_served(
    network: dict[str, object], shaken: float, tmp_path: Path
) -> None:
    """And gives in onnxruntime what it gives in torch, on sizes that were not traced."""
    config = _config(network)
    made = _shaken(build_network(config.network, 3), shaken)
    export = prepare_export(made, config)
    assert len(export.differences) == 2
    assert max(export.differences.values()) < 1e-4  # voxels
    export.write(tmp_path)
    fixed, moving = _pair(3)
    engine = ModelFolder(tmp_path, threads=1).load("tiny")  # where its card likes it best
    field = engine.predict(fixed, moving, Affine.identity())
    assert np.abs(field.vectors_mm).max() > 1e-2, "the network says nothing"


def test_the_card_and_the_page_say_what_was_configured_and_measured(tmp_path: Path) -> None:
    config = _config({**VOXELMORPH, "output": {"kind": "velocity", "steps": 5}})
    network = _awake(VoxelMorph(config.network, 3))
    folder = export_model(network, config, tmp_path, version="7", figures=(FIGURE,))
    card = Card.read(folder / "card.json")
    assert (card.name, card.version, card.initialise) == ("tiny", "7", "centre")
    assert (card.output.kind, card.output.stride, card.output.integration_steps) == (
        "velocity", 2, 5,
    )  # fmt: skip
    assert (card.grid.spacing_mm, card.grid.multiple) == (2.0, 4)
    assert card.evaluation == (FIGURE,)
    assert card.accept == "always", "only labels judge it"
    assert card.providers[-1] == "cpu"
    told = (folder / "README.md").read_text("utf-8")
    assert "Dice" in told
    assert "warpline train train.yaml" in told
    written = (folder / "train.yaml").read_text("utf-8")
    again = parse_config(yaml.safe_load(written))
    assert again.network == config.network
    for text in (told, written, json.dumps(card.training.configuration)):
        assert "private" not in text
    assert b"site-packages" not in (folder / "model.onnx").read_bytes()


def test_an_affine_that_is_served_is_the_networks(tmp_path: Path) -> None:
    config = _config({"kind": "globalnet", "channels_initial": 2, "depth": 2})
    network = _awake(GlobalNet(config.network, 3)).eval()
    export_model(network, config, tmp_path)
    fixed, moving = _pair(3)
    engine = ModelFolder(tmp_path, provider="cpu", threads=1).load("tiny")
    found = engine.predict_affine(fixed, moving, Affine.identity())
    here = _padded(fixed, 3)
    with torch.inference_mode():
        matrix = network(here, _padded(moving, 3))[0].double().numpy()
    assert np.abs(matrix - np.eye(3, 4)).max() > 1e-3, "the network says nothing"
    centre = (np.array(here.shape[2:]) - 1) / 2
    index = np.array([[0.0, 0, 0], [13, 20, 11], [3, 7, 5]])
    expected = (index - centre) @ matrix[:, :3].T + matrix[:, 3] + centre
    moved = fixed.grid.to_voxel(found.move(fixed.grid.to_world(index)))
    np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_labels_that_are_served_are_the_networks(tmp_path: Path) -> None:
    backbone = {"kind": "voxelmorph", "encoder": [4, 4], "decoder": [4, 4, 4]}
    config = _config({"kind": "conditional", "backbone": backbone})
    network = _awake(Conditional(config.network, 3)).eval()
    export_model(network, config, tmp_path)
    fixed, moving = _pair(3)
    labels = moving.with_data((moving.data > 0.6).astype(np.uint8) * 4)
    engine = ModelFolder(tmp_path, provider="cpu", threads=1).load("tiny")
    found = engine.segment(fixed, moving, labels, Affine.identity())
    share = _padded(labels.with_data(labels.data // 4), 3, mode="constant")
    with torch.inference_mode():
        output = network(_padded(fixed, 3), _padded(moving, 3), share)[0, 0].numpy()
    output = output[:14, :21, :12]
    clear = np.abs(output - 0.5) > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found.data[clear], np.where(output > 0.5, 4, 0)[clear])


def test_a_version_is_never_written_over_and_leaves_nothing_behind(tmp_path: Path) -> None:
    config = _config({**VOXELMORPH, "output": {"kind": "displacement"}})
    export = prepare_export(VoxelMorph(config.network, 3), config)
    first = export.write(tmp_path)
    before = (first / "card.json").read_bytes()
    with pytest.raises(ConflictError, match="never changes"):
        export.write(tmp_path, (FIGURE,))
    assert (first / "card.json").read_bytes() == before
    assert export.write(tmp_path, (FIGURE,), version="2").name == "2"
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["1", "2"]


class _Drifting(torch.nn.Module):
    """Gives something else each time: no graph can equal it."""

    multiple, stride = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.cat([fixed + moving + self.calls] * 3, dim=1)


def test_a_graph_that_differs_from_torch_is_refused(tmp_path: Path) -> None:
    config = _config({**VOXELMORPH, "output": {"kind": "displacement", "stride": 1}})
    with pytest.raises(ModelInvalidError, match="differs from torch"):
        export_model(_Drifting(), config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_parity_is_tested_on_the_cards_grid_and_on_another(tmp_path: Path) -> None:
    config = _config({**VOXELMORPH, "output": {"kind": "displacement"}})
    signature = signature_of(VoxelMorph(config.network, 3), config)
    own, second = parity_shapes(config, signature)
    assert own == (16, 24, 12)
    assert second != own
    assert all(n % 4 == 0 for n in second)
    cube, other = parity_shapes(config, signature, (20, 20, 20))
    assert (cube, other) == ((20, 20, 20), (24, 20, 20))
