"""A whole small training: it learns, resumes to the bit, stops when asked, and leaves a model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from service.errors import CheckpointInvalidError, TrainingDivergedError, TrainingExistsError
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.volume import Volume
from tests.balls import SIZE, ball, write_balls
from tests.balls import small_training as small
from trainer.checkpoint import checkpoints
from trainer.config import parse_config
from trainer.running import RunOptions, run_training

ROOT = Path(__file__).parents[3]
QUIET = RunOptions(is_silent=True, is_finished=False)


@pytest.fixture
def data(tmp_path) -> Path:
    """Six balls at different places, in pairs."""
    shifts = {"train": (-1, 0, 2), "valid": (1,), "test": (1.5, 2.5)}
    return write_balls(tmp_path / "data", shifts)


def record(out: Path, kind: str):
    lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def losses(out: Path):
    return [line["losses"] for line in record(out, "step")]


def test_a_training_learns_and_tells_of_every_step(data, tmp_path):
    out = tmp_path / "out"
    run_training(parse_config(small(data, epochs=12)), out, QUIET)
    steps, validations = record(out, "step"), record(out, "validation")
    assert [line["step"] for line in steps] == list(range(1, 37))
    assert {"ssd", "dice", "gradient"} == set(steps[0]["losses"])
    assert all(len(line["pairs"]) == 1 for line in steps)
    assert validations[-1]["figures"]["dice"] > validations[0]["figures"]["dice"] + 0.02
    assert len(checkpoints(out / "checkpoints")) == 2
    assert sorted(p.name for p in (out / "pictures").iterdir())[:2] == [
        "epoch-00002.png", "epoch-00004.png",
    ]  # fmt: skip
    assert list((out / "tensorboard").iterdir())
    assert yaml.safe_load((out / "config.yaml").read_text("utf-8"))["name"] == "balls"


def test_the_same_seed_gives_the_same_losses_whatever_prepares_the_batches(data, tmp_path):
    run_training(parse_config(small(data)), tmp_path / "a", QUIET)
    run_training(parse_config(small(data, loaders=2)), tmp_path / "b", QUIET)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_resumed_training_has_the_losses_of_an_unbroken_one(data, tmp_path, stop):
    document = small(data, accumulate=2, steps_per_epoch=2)
    document["augment"] = {"affine": {"scale": 0.1}}
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    run_training(parse_config(document), unbroken, QUIET)
    config = parse_config(document)
    with _stopped_after(broken, stop):
        run_training(config, broken, QUIET)
    assert len(losses(broken)) == stop + 1  # the step under way is in the record, not saved
    run_training(config, broken, RunOptions(resume=True, is_silent=True, is_finished=False))
    assert losses(broken) == losses(unbroken)
    assert _weights(broken) == _weights(unbroken)


class _Killed(Exception):
    pass


def _stopped_after(out, stop):
    """Ends a training as SIGKILL would: after a step is recorded, before it is saved."""
    import trainer.loop

    saved = trainer.loop.save_checkpoint

    def save(folder, trained, position):
        if position.step > stop:
            raise _Killed
        return saved(folder, trained, position)

    class Stopping:
        def __enter__(self):
            trainer.loop.save_checkpoint = save

        def __exit__(self, kind, error, trace):
            trainer.loop.save_checkpoint = saved
            return kind is _Killed

    return Stopping()


def _weights(out):
    newest = checkpoints(out / "checkpoints")[-1]
    from safetensors.torch import load_file

    return {k: v.tolist() for k, v in load_file(newest).items() if k.startswith("network.")}


def test_a_folder_with_a_training_is_not_written_over(data, tmp_path):
    config = parse_config(small(data, epochs=1))
    run_training(config, tmp_path / "out", QUIET)
    with pytest.raises(TrainingExistsError, match="--resume"):
        run_training(config, tmp_path / "out", QUIET)


def test_a_loss_that_is_no_number_stops_with_step_pair_and_last_good_checkpoint(data, tmp_path):
    config = parse_config(
        small(data, optimiser={"kind": "sgd", "learning_rate": 10}, clip_norm=None)
        | {"losses": {"image": [{"kind": "ssd", "weight": 1e6}]}}
    )
    out = tmp_path / "out"
    with pytest.raises(TrainingDivergedError, match="step") as caught:
        _poisoned(config, out)
    told = record(out, "diverged")[0]
    assert [fault["field"] for fault in caught.value.errors] == told["pairs"]
    assert told["step"] == 3
    assert "case" in told["pairs"][0]
    assert int(checkpoints(out / "checkpoints")[-1].stem[5:]) == 2


def _poisoned(config, out):
    """The weights become NaN in the second step."""
    import trainer.loop

    optimise = trainer.loop.optimise

    def poisoned(run, group, position):
        found = optimise(run, group, position)
        if position.step == 1:
            with torch.no_grad():
                next(iter(run.trained.network.parameters())).fill_(float("nan"))
        return found

    trainer.loop.optimise = poisoned
    try:
        run_training(config, out, QUIET)
    finally:
        trainer.loop.optimise = optimise


def test_another_training_is_not_resumed_into_a_folder(data, tmp_path):
    out = tmp_path / "out"
    run_training(parse_config(small(data, epochs=1)), out, QUIET)
    kept = (out / "config.yaml").read_text("utf-8")
    other = parse_config(small(data, epochs=1) | {"seed": 5})
    with pytest.raises(CheckpointInvalidError, match="other data"):
        run_training(other, out, RunOptions(resume=True, is_silent=True, is_finished=False))
    assert (out / "config.yaml").read_text("utf-8") == kept


def test_a_finished_training_goes_on_for_more_epochs(data, tmp_path):
    out, more = tmp_path / "out", RunOptions(resume=True, is_silent=True)
    run_training(parse_config(small(data, epochs=1, picture_every=0)), out, more)
    run_training(parse_config(small(data, epochs=2, picture_every=0)), out, more)
    assert len(losses(out)) == 6
    assert (out / "model" / "balls" / "1" / "card.json").is_file()


def test_patience_ends_a_training_that_no_longer_improves(data, tmp_path):
    config = parse_config(
        small(data, epochs=50, early_stop={"patience": 2, "min_delta": 10.0}, picture_every=0)
    )
    run_training(config, tmp_path / "out", QUIET)
    assert len(record(tmp_path / "out", "validation")) == 3


def test_minutes_end_a_training(data, tmp_path):
    config = parse_config(small(data, epochs=100_000, max_minutes=0.02, picture_every=0))
    run_training(config, tmp_path / "out", QUIET)
    assert 0 < len(losses(tmp_path / "out")) < 1000


def test_a_training_leaves_a_model_that_the_service_runs(data, tmp_path):
    folder = run_training(
        parse_config(small(data, epochs=2, picture_every=0)),
        tmp_path / "out",
        RunOptions(is_silent=True, version="7"),
    )
    assert folder == tmp_path / "out" / "model" / "balls" / "7"
    engine = ModelFolder(tmp_path / "out" / "model").load("balls/7")
    assert {figure.metric for figure in engine.card.evaluation} >= {"mean Dice of the labels"}
    assert (tmp_path / "out" / "evaluation" / "metrics.csv").is_file()
    assert not (tmp_path / "out" / "unmeasured" / "balls").exists()


def test_where_nothing_is_measured_no_evaluation_is_told_of(tmp_path, capfd):
    data = write_balls(tmp_path / "data", {"train": (-1, 0), "valid": (1,)})
    config = small(data, epochs=1, picture_every=0)
    config["data"]["splits"]["test"] = []
    out = tmp_path / "out"
    run_training(parse_config(config), out, RunOptions(events=True))
    done = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (out / done["model"]).is_dir()
    assert "evaluation" not in done


def test_slices_are_trained_and_served_in_two_dimensions(tmp_path):
    root, grid = tmp_path / "data", Grid((SIZE, SIZE, 1), np.diag([1.0, 1.0, 3.0, 1.0]))
    for split, shift in (("train", 1), ("test", 2)):
        for side, where in (("fixed", 0.0), ("moving", shift)):
            image, label = ball(where)
            for kind, values in (("images", image), ("labels", label)):
                path = root / split / f"{side}_{kind}" / "slice.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_volume(path, Volume(values[:, :, 8:9], grid))
    document = small(root, epochs=2, picture_every=1)
    document["data"] |= {"grid": {"ndim": 2}}
    document["data"]["splits"] |= {"valid": ["train"]}
    folder = run_training(parse_config(document), tmp_path / "out", RunOptions(is_silent=True))
    card = ModelFolder(tmp_path / "out" / "model").card("balls")
    assert folder is not None
    assert card.ndim == 2
    assert {figure.pairs for figure in card.evaluation} == {1}
    assert (tmp_path / "out" / "pictures" / "epoch-00002.png").is_file()


def _command(data, out, *more, **train):
    config = out.parent / "config.yaml"
    config.write_text(yaml.safe_dump(small(data, **train)), "utf-8")
    command = [sys.executable, "-m", "trainer", "train", str(config), "--out", str(out)]
    return [*command, "--no-finish", *more]


# Waits where it has told of a checkpoint until its input ends: else it could be done before the
# test, on a busy machine, comes to stop it.
HELD = """
import sys
from trainer.__main__ import main
from trainer.monitor import EventStream

hear = EventStream.hear

def hear_and_wait(self, kind, told):
    hear(self, kind, told)
    if kind == "checkpoint" and told["step"] >= 9:
        sys.stdin.read()

EventStream.hear = hear_and_wait
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_process_that_is_stopped_goes_on_with_the_same_losses(data, tmp_path, number):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    settings = {"epochs": 14, "picture_every": 0}
    run_training(parse_config(small(data, **settings)), unbroken, QUIET)
    command = _command(data, broken, "--events", "--resume", **settings)
    held, pipe = [sys.executable, "-c", HELD, *command[3:]], subprocess.PIPE
    with subprocess.Popen(held, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "checkpoint" and json.loads(line)["step"] >= 9:
                process.send_signal(number)
                process.stdin.close()
                break
        process.stdout.read()
    assert process.returncode == (75 if number == signal.SIGTERM else -number)
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(ended.stdout.splitlines()[0])["step"] > 9
    assert losses(broken) == losses(unbroken)


# Threads of a group that are alive while Python ends abort the process, now and then.
RANK = """
import sys
from pathlib import Path
from trainer.__main__ import main

code = main(sys.argv[1:])
threads = [path.read_text("utf-8") for path in Path("/proc/self/task").glob("*/comm")]
left = [name for name in threads if "gloo" in name]
sys.exit(f"threads are left: {left}" if left else code)
"""


@pytest.mark.slow
def test_two_processes_train_together_as_torchrun_starts_them(data, tmp_path):
    command = _command(data, tmp_path / "out", "--quiet", epochs=3, picture_every=0)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    program = tmp_path / "rank.py"
    program.write_text(RANK, "utf-8")
    started = [*launcher, str(program), *command[3:]]
    subprocess.run(started, check=True, cwd=ROOT, env=environment, timeout=500)
    steps = record(tmp_path / "out", "step")
    assert [line["step"] for line in steps] == list(range(1, 7))  # 3 pairs, 2 at a time, 3 epochs
    assert len(record(tmp_path / "out", "validation")) == 3


def test_bad_input_is_told_as_an_event_and_by_the_exit_code(data, tmp_path):
    command = _command(data, tmp_path / "out", "--events", epochs=1)
    (data / "train" / "moving_images" / "case1.nii.gz").unlink()
    (data / "valid" / "fixed_images" / "case0.nii.gz").write_bytes(b"nothing")
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 2
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["event"], told["code"]) == ("error", "training-data-invalid")
    assert [fault["field"] for fault in told["errors"]] == [
        "train/fixed_images/case1.nii.gz",  # whose moving image is missing
        "train/moving_labels/case1.nii.gz",  # whose image is the missing one
        "valid/fixed_images/case0.nii.gz",
    ]
