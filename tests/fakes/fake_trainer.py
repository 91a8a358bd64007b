"""A trainer for tests: the same command line, events, checkpoints and folder; no science.

What it shall do wrong stands in the configuration's `card.summary`, as `name=value` words:
`step_s` seconds a step takes, `die_at` the step at which it kills itself in its first life,
`await_at` steps after which it waits in its first life, until it is asked to stop or there is the
file `go` (by default `STEP.go` beside its folder), `hog_mib` memory to take, `error` a code to end
with, `mute` to end without saying why, `full_disk` to write to a full device, `family` to start a
child of its own.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "models" / "discrete" / "1"
KEPT = 2
STOPPED = 75

asked_to_stop: list[int] = []


def tell(event: str, **told: object) -> None:
    print(json.dumps({"event": event, **told}), flush=True)


def next_state(state: str) -> str:
    """One step of a training that only an unbroken chain of steps can reproduce."""
    return hashlib.sha256(state.encode()).hexdigest()


def loss_of(state: str) -> float:
    return int(state[:8], 16) / 2**32


class Training:
    """The state of one run and its folder."""

    def __init__(self, out: Path, config: dict) -> None:
        self.out = out
        self.epochs = config.get("train", {}).get("epochs", 2)
        self.per_epoch = config.get("train", {}).get("steps_per_epoch") or 5
        words = config.get("card", {}).get("summary", "").split()
        self.orders = dict(word.split("=", 1) for word in words if "=" in word)
        self.name = config.get("name", "model")
        self.step, self.state, self.is_resumed = 0, "begin", False

    def resume(self) -> None:
        kept = sorted((self.out / "checkpoints").glob("step-*.safetensors"))
        if kept:
            self.step, self.state = json.loads(kept[-1].read_text())
            self.is_resumed = True
        record = self.out / "metrics.jsonl"
        lines = record.read_text().splitlines() if record.is_file() else []
        lines = [line for line in lines if json.loads(line)["step"] <= self.step]
        record.write_text("".join(f"{line}\n" for line in lines))

    def save(self) -> None:
        folder = self.out / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        for name in (f"step-{self.step:09d}.safetensors", "best.safetensors"):
            part = folder / f"{name}.part"
            part.write_text(json.dumps([self.step, self.state]))
            part.replace(folder / name)
        for old in sorted(folder.glob("step-*.safetensors"))[:-KEPT]:
            old.unlink()
        tell("checkpoint", step=self.step, path=f"checkpoints/step-{self.step:09d}.safetensors")

    def advance(self) -> None:
        time.sleep(float(self.orders.get("step_s", 0.01)))
        self.step, self.state = self.step + 1, next_state(self.state)
        epoch, loss = (self.step - 1) // self.per_epoch + 1, loss_of(self.state)
        with (self.out / "metrics.jsonl").open("a") as record:
            line = {
                "kind": "step",
                "step": self.step,
                "losses": {"total": loss},
                "pid": os.getpid(),
            }
            record.write(json.dumps(line) + "\n")
        steps = self.epochs * self.per_epoch
        left = (steps - self.step) * float(self.orders.get("step_s", 0.01))
        tell(
            "step",
            step=self.step,
            steps=steps,
            epoch=epoch,
            losses={"total": loss, "broken": float("nan")},
            seconds_left=left,
        )

    def await_others(self) -> None:
        """So that a test sees a training in its midst, however late it looks."""
        if str(self.step) not in self.orders.get("await_at", "").split(",") or self.is_resumed:
            return
        go = Path(self.orders.get("go", f"../{self.step}.go"))
        while not (go.exists() or asked_to_stop):
            time.sleep(0.02)

    def misbehave(self) -> None:
        if self.step == int(self.orders.get("die_at", -1)) and not self.is_resumed:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.step == 2 and "hog_mib" in self.orders:
            hog = bytearray(b"x" * (int(self.orders["hog_mib"]) << 20))
            time.sleep(600)
            del hog
        if self.step == 2 and "mute" in self.orders:
            sys.exit(3)
        if self.step == 2 and "error" in self.orders:
            faults = [{"field": "/data", "detail": "3 images have no labels."}]
            tell("error", code=self.orders["error"], detail="As ordered.", errors=faults)
            sys.exit(1)
        if self.step == 2 and "full_disk" in self.orders:
            fill_the_disk()

    def finish(self, version: str, compare: Path | None) -> None:
        tell("stage", stage="export")
        model = self.out / "model" / self.name / version
        model.mkdir(parents=True)
        shutil.copy(SHIPPED / "model.onnx", model)
        card = json.loads((SHIPPED / "card.json").read_text())
        card |= {"name": self.name, "version": version}
        (model / "card.json").write_text(json.dumps(card))
        (model / "README.md").write_text(f"# {self.name}\n")
        tell("stage", stage="evaluate")
        evaluation = self.out / "evaluation"
        evaluation.mkdir(exist_ok=True)
        (evaluation / "metrics.csv").write_text("pair,label,dice\n0,1,0.8\n")
        (evaluation / "evaluation.html").write_text("<p>fine</p>")
        if compare is None:
            return
        other = json.loads((compare / "card.json").read_text())
        assert (compare.parent.name, compare.name) == (other["name"], other["version"])
        first = {"name": self.name, "version": version, "sha256": card["sha256"]}
        second = {key: other[key] for key in ("name", "version", "sha256")}
        dice = {
            "pairs": 3,
            "first": 0.8,
            "second": 0.7,
            "wins": 2,
            "losses": 1,
            "ties": 0,
            "p": 0.5,
        }
        comparison = {"first": first, "second": second, "pair_set": "d" * 64}
        comparison |= {"metrics": {"dice": dice}, "decided_by": "dice", "first_is": "better"}
        (evaluation / "comparison.json").write_text(json.dumps(comparison))


def fill_the_disk() -> None:
    """A real `no space left on device`, told as the real trainer tells it."""
    try:
        with Path("/dev/full").open("w") as full:
            full.write("x")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        tell("error", code="storage-full", detail="The disk is full.")
        sys.exit(1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["train"])
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--version", default="1")
    parser.add_argument("--compare", type=Path)
    for flag in ("--resume", "--events", "--quiet"):
        parser.add_argument(flag, action="store_true", required=True)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(1))
    training = Training(chosen.out, json.loads(chosen.config.read_text()))
    assert not [name for name in os.environ if name.startswith("WARPLINE_")], "secrets leak"
    if "family" in training.orders:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert not any(path.is_absolute() for path in (chosen.out, chosen.config)), "a path of ours"
    tell("stage", stage="train")
    with contextlib.suppress(FileNotFoundError):
        training.resume()
    while training.step < training.epochs * training.per_epoch:
        training.advance()
        training.await_others()
        if training.step % training.per_epoch == 0 or asked_to_stop:
            training.save()
        if asked_to_stop:
            return STOPPED
        training.misbehave()
    training.finish(chosen.version, chosen.compare)
    tell("done", model=f"model/{training.name}/{chosen.version}", evaluation="evaluation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
