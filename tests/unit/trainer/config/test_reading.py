"""Configurations: merged, checked as a whole, every fault with its place."""

import subprocess
import sys

import pytest
import yaml

from service.errors import ValidationError
from trainer.config import TrainConfig, merge, parse_config, read_config
from trainer.config.checks import network_multiple
from trainer.config.explain import explain
from trainer.networks.build import build_network

SMALL = {
    "name": "small",
    "data": {"format": "list", "pairing": "unpaired", "labels": "required"},
    "network": {"kind": "voxelmorph", "encoder": [8, 8], "decoder": [8, 8, 8]},
    "losses": {"image": [{"kind": "lncc"}], "label": [{"kind": "dice"}]},
}


def _write(path, document):
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


def _faults(document, prefix=""):
    with pytest.raises(ValidationError) as caught:
        parse_config(document, prefix)
    return {fault["field"]: fault["detail"] for fault in caught.value.errors}


def test_later_files_rank_above_earlier_ones_key_by_key(tmp_path):
    first = _write(tmp_path / "a.yaml", SMALL)
    second = _write(tmp_path / "b.yaml", {"seed": 7, "train": {"epochs": 3}})
    config = read_config([first, second], ["train.batch_size=2", "losses.label=[]"])
    assert (config.seed, config.train.epochs, config.train.batch_size) == (7, 3, 2)
    assert config.losses.label == ()
    assert config.network.encoder == (8, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: caf\xe9", "not text in UTF-8"),
        ("name: 2026-02-30", "not YAML"),
        ("name: !!int abc", "not YAML"),
        ("name: !!timestamp abc", "not YAML"),
        ("[" * 3000 + "]" * 3000, "not YAML"),
        ("data: {", "not YAML near line 1"),
        ("- name", "must be a YAML mapping"),
    ],
)
def test_files_that_are_no_configuration_are_told_so(tmp_path, text, said):
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValidationError, match=f"c.yaml .*{said}"):
        read_config([path])


def test_what_our_own_checks_say_is_a_sentence():
    faults = _faults(merge(SMALL, {"data": {"splits": {"kind": "folds", "fold": 7}}}))
    assert faults == {"/data/splits": "Folds are counted from 0: fold goes up to 4."}


def test_a_change_whose_value_is_no_yaml_is_told_so(tmp_path):
    with pytest.raises(ValidationError, match="The value of name is not YAML"):
        read_config([_write(tmp_path / "c.yaml", SMALL)], ["name=2026-02-30"])


def test_options_of_another_kind_do_not_stay_behind():
    merged = merge(SMALL, {"network": {"kind": "globalnet"}})
    assert merged["network"] == {"kind": "globalnet"}


def test_scales_in_millimetres_are_held_against_the_grids_millimetres():
    grid = {"data": {"grid": {"shape": [32, 32, 32], "spacing_mm": 2.0}}}

    def scaled(unit, scale):
        loss = {"kind": "dice", "scales": [0, scale], "scale_unit": unit}
        return merge(merge(SMALL, grid), {"losses": {"label": [loss]}})

    assert parse_config(scaled("mm", 40)).losses.label[0].scales == (0, 40)
    assert list(_faults(scaled("mm", 80))) == ["/losses/label"]
    assert list(_faults(scaled("voxel", 40))) == ["/losses/label"]


def test_a_configuration_survives_its_own_yaml(tmp_path):
    config = parse_config(SMALL)
    again = read_config([_write(tmp_path / "c.yaml", config.model_dump(mode="json"))])
    assert again == config
    assert again.digest() == config.digest()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"losses": {"image": [{"kind": "lnc"}]}}, "/losses/image/0/kind"),
        ({"losses": {"image": [{"kind": "lncc", "window": 8}]}}, "/losses/image/0/window"),
        ({"losses": {"label": [{"kind": "dice", "foo": 1}], "image": []}}, "/losses/label/0/foo"),
        ({"network": {"kind": "voxelmorph", "depth": 3}}, "/network/depth"),
        ({"train": {"epochs": 0}}, "/train/epochs"),
        ({"trian": {}}, "/trian"),
        ({"data": {"labels": "none"}}, "/losses/label"),
        ({"losses": {"image": [], "label": []}}, "/losses"),
        ({"losses": {"points": [{"kind": "distance"}]}}, "/losses/points"),
        ({"network": {"kind": "conditional"}}, "/losses/image"),
        ({"data": {"grid": {"shape": [32, 30, 32]}}}, "/data/grid/shape/1"),
        ({"data": {"splits": {"kind": "folds", "folds": 5, "fold": 5}}}, "/data/splits"),
        ({"data": {"splits": {"kind": "folds", "folds": 1}}}, "/data/splits/folds"),
        ({"network": {"kind": "pdd", "control_stride": 3}}, "/network"),
        ({"synth": {"shapes": {"node_mm": [0, 10]}}}, "/synth/shapes/node_mm/0"),
        ({"synth": {"field": {"node_mm": [20, 10]}}}, "/synth/field/node_mm"),
        ({"losses": {"label": [{"kind": "dice", "scales": [0, 64]}]},
          "data": {"grid": {"shape": [32, 32, 32]}}}, "/losses/label"),
        ({"train": {"precision": "float16", "device": "cpu"}}, "/train/precision"),
        ({"losses": {"image": [], "label": [{"kind": "dice", "binary": True}]}}, "/losses/label"),
        ({"train": {"monitor": "tre_mm"}}, "/train/monitor"),
        ({"data": {"labels": "none"}, "losses": {"label": []}, "train": {"monitor": "dice"}},
         "/train/monitor"),
        ({"train": {"early_stop": {"patience": 3}}}, "/train/early_stop"),
        ({"losses": {"field": [{"kind": "bending", "on": "velocity"}]},
          "network": {"kind": "globalnet"}}, "/losses/field/0/on"),
        ({"losses": {"field": [{"kind": "known-displacement"}]}}, "/losses/field/0"),
        ({"losses": {"field": [{"kind": "known-displacement"}]}, "synth": {"same_map": 0},
          "data": {"synthetic": "labels", "grid": {"shape": [32, 32, 32]}}}, "/losses/field/0"),
        ({"losses": {"field": [{"kind": "known-displacement"}]}, "augment": {"affine": {}},
          "data": {"synthetic": "labels", "grid": {"shape": [32, 32, 32]}}}, "/augment/affine"),
        ({"data": {"splits": {"kind": "explicit", "train": ["../elsewhere"]}}},
         "/data/splits/train/0"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_a_pointer_to_its_place(change, pointer):
    assert pointer in _faults(merge(SMALL, change))


def test_faults_are_told_all_at_once_and_below_a_prefix():
    faults = _faults(merge(SMALL, {"seed": -1, "train": {"batch_size": 0, "x": 1}}), "/config")
    assert set(faults) == {"/config/seed", "/config/train/batch_size", "/config/train/x"}


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused(document):
    assert _faults(document)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "\t"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ValidationError, match=r"broken\.yaml"):
        read_config([path])


def test_a_change_without_a_value_is_refused(tmp_path):
    with pytest.raises(ValidationError, match=r"section\.option=value"):
        read_config([_write(tmp_path / "a.yaml", SMALL)], ["seed"])
    with pytest.raises(ValidationError, match="quote it"):
        read_config([_write(tmp_path / "a.yaml", SMALL)], ["seed=[1"])


def test_a_resumed_training_may_run_longer_but_not_differently():
    digest = parse_config(SMALL).digest()
    assert parse_config(merge(SMALL, {"train": {"epochs": 9, "loaders": 0}})).digest() == digest
    assert parse_config(merge(SMALL, {"data": {"root": "elsewhere"}})).digest() == digest
    assert parse_config(merge(SMALL, {"seed": 1})).digest() != digest
    assert parse_config(merge(SMALL, {"train": {"batch_size": 2}})).digest() != digest


def test_every_option_is_explained():
    options = list(explain())
    assert len(options) > 200
    assert [option.path for option in options if not option.meaning] == []
    by_path = {option.path: option for option in options}
    assert by_path["train.epochs"].default == "100"
    assert by_path["losses.image[](lncc).window"].type == "int"
    assert by_path["network(voxelmorph).output.kind"].type == "displacement | velocity"


def test_the_schema_names_every_section():
    schema = TrainConfig.model_json_schema()
    assert set(schema["properties"]) == set(TrainConfig.model_fields)


def test_reading_a_configuration_loads_no_torch():
    script = "import sys, trainer.config; print([m for m in ('torch','numba') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("network", "multiple"),
    [
        ({"kind": "voxelmorph"}, 16),
        ({"kind": "deepreg-unet", "depth": 2}, 4),
        ({"kind": "localnet"}, 16),
        ({"kind": "globalnet", "depth": 3}, 8),
        ({"kind": "correlation"}, 4),
        ({"kind": "correlation", "channels": [8], "output": {"stride": 4}}, 4),
        ({"kind": "pdd"}, 8),
        ({"kind": "pyramid"}, 16),
        ({"kind": "matching-pyramid"}, 8),
    ],
)
def test_the_multiple_is_told_before_a_network_is_built(network, multiple):
    config = parse_config({**SMALL, "network": network}).network
    assert network_multiple(config) == multiple
    assert build_network(config).multiple == multiple
