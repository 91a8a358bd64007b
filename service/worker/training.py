"""What a worker does for a training: data, a child process that learns, and the model it leaves.

The child (`python -m trainer`) knows the science and nothing of jobs. It tells its events as lines
of JSON; its checkpoints go to the object store as they come, so that any host can go on with them.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import service
from service.errors import (
    TrainingFailedError,
    TrainingInterruptedError,
    TrainingMemoryError,
    TrainingTimeError,
)
from service.jobs.heart import HandedBackError
from service.jobs.job import Job
from service.jobs.ports import BlobStore
from service.jobs.runner import Outcome, Watch
from service.registration.card import Card
from service.worker.checkpoints import Checkpoints, Courier
from service.worker.trainer_process import TrainerProcess
from service.worker.training_data import DataFetcher
from service.worker.training_progress import Told
from service.worker.training_results import error_of, outcome_of

log = logging.getLogger(__name__)

ORDER, OUT = "order.yaml", "out"
TRAINER = (sys.executable, "-m", "trainer")
LOOK_EVERY_S = 0.2
MEASURE_EVERY_S = 0.5
# A child that is asked to stop writes a checkpoint first; the worker's own time is 15 s.
SAVE_WITHIN_S, DELIVER_WITHIN_S = 6.0, 3.0
STOPPED = 75  # the child's exit code after it was asked to stop
KILLED = 128  # and above: by a signal
# Kept with each checkpoint where they are there: the best weights, and the record so far.
COMPANIONS = ("checkpoints/best.safetensors", "metrics.jsonl")


@dataclass(frozen=True)
class TrainingLimits:
    """What one training may take."""

    hours: float
    memory_mib: int
    threads: int | None = None


@dataclass(frozen=True)
class Training:
    """`service.jobs.runner.Work` for trainings."""

    blobs: BlobStore
    data: DataFetcher
    limits: TrainingLimits
    # The folder of the model in production under a name, to compare with; None if there is none.
    production: Callable[[str], Path | None] = lambda _name: None
    command: tuple[str, ...] = TRAINER

    def __call__(self, job: Job, folder: Path, watch: Watch) -> Outcome:
        """Do the job in `folder`: data under `in`, the training's own folder is `out`."""
        root = None
        if job.request.inputs:
            root = self.data.fetch(job.request.inputs, folder / "in", lambda: watch("fetch", 0.0))
        out = folder / OUT
        out.mkdir()
        checkpoints = Checkpoints(self.blobs, job.id, job.fence)
        watch("resume", 0.0)
        step = checkpoints.restore(out)
        if step is not None:
            log.info("job=%s resumes step=%d", job.id, step)
        courier = Courier(checkpoints, folder / "staged")
        process = TrainerProcess(
            self._command_line(job, folder, root), child_environment(self.limits.threads), folder
        )
        run = _Run(process, courier, out, root, self.limits, watch)
        try:
            run.follow()
        except HandedBackError:
            run.save()
            raise
        finally:
            process.kill()
            courier.close(DELIVER_WITHIN_S)
        return outcome_of(job, out, run.told.model)

    def _command_line(self, job: Job, folder: Path, root: Path | None) -> list[str]:
        """What the child is told. Paths are relative, so that none of ours is in what it writes."""
        config = json.dumps(job.request.options["config"])  # JSON is YAML
        (folder / ORDER).write_text(config, "utf-8")
        command = [*self.command, "train", ORDER, "--out", OUT, "--resume", "--events", "--quiet"]
        if root is not None:
            command += ["--data", str(root.relative_to(folder))]
        if job.request.publishes is not None:
            made = job.request.publishes
            command += ["--version", made.version]
            command += self._compared(made.name, folder)
        return command

    def _compared(self, name: str, folder: Path) -> list[str]:
        """A copy of the model to compare with, as `<name>/<version>`; caches are tidied."""
        other = self.production(name)
        if other is None:
            return []
        card = Card.read(other / "card.json")
        copy = shutil.copytree(other, folder / "compare" / card.name / card.version)
        return ["--compare", str(copy.relative_to(folder))]


def child_environment(threads: int | None) -> Mapping[str, str]:
    """What the child sees: everything but our settings, which hold keys and passwords."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("WARPLINE_")}
    # A checkout that is not installed is found all the same.
    paths = [str(Path(service.__file__).parents[1]), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if threads is not None:
        found |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    # Its working folder holds what came from outside; no module is looked for there.
    return found | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


@dataclass
class _Run:
    """One child from its start to its end."""

    process: TrainerProcess
    courier: Courier
    out: Path
    data: Path | None
    limits: TrainingLimits
    watch: Watch
    told: Told = field(default_factory=Told)
    _began: float = field(default_factory=time.monotonic)
    _measured_at: float = 0.0
    _problem: dict[str, Any] | None = None

    def follow(self) -> None:
        """Hear the child until it has ended well.

        Raises:
            TrainingMemoryError, TrainingTimeError: If it takes more than it may.
            TrainingInterruptedError: If something killed it; it can go on from its checkpoint.
            WarplineError: What it says is wrong.
        """
        while (code := self.process.exit_code) is None:
            self._hear()
            self.watch(self.told.stage, self.told.fraction, self.told.detail())
            self._require_bounds()
        if self._problem is not None and code != STOPPED:
            raise error_of(self._problem, self.data)
        if code == STOPPED or code >= KILLED or code < 0:
            raise TrainingInterruptedError(
                "Something killed the training process; it goes on from its last checkpoint."
            )
        if code != 0 or not self.told.is_done:
            raise TrainingFailedError("The trainer ended without saying why.")

    def save(self) -> None:
        """Ask the child for a checkpoint, and hear of it."""
        self.process.ask_to_stop()
        until = time.monotonic() + SAVE_WITHIN_S
        while self.process.exit_code is None and time.monotonic() < until:
            self._hear()

    def _hear(self) -> None:
        for event in self.process.events(LOOK_EVERY_S):
            if event.get("event") == "checkpoint":
                self._keep(event)
            elif event.get("event") == "error":
                self._problem = event
            else:
                self.told.hear(event)
        self.courier.pump()

    def _keep(self, event: dict[str, Any]) -> None:
        path, step = event.get("path"), event.get("step")
        if isinstance(path, str) and isinstance(step, int):
            self.courier.take(self.out, path, COMPANIONS, step)

    def _require_bounds(self) -> None:
        now = time.monotonic()
        if now - self._began > self.limits.hours * 3600:
            raise TrainingTimeError(
                f"The training took longer than the {self.limits.hours:g} hours that this service "
                "gives one. Train fewer epochs, or set train.max_minutes."
            )
        if now - self._measured_at < MEASURE_EVERY_S:
            return
        self._measured_at = now
        if self.process.memory_bytes() > self.limits.memory_mib << 20:
            raise TrainingMemoryError(
                f"The training took more than the {self.limits.memory_mib} MiB that this service "
                "gives one. Take a coarser grid, a smaller batch or fewer channels."
            )
