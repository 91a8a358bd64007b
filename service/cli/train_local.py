"""`warpline train` on this machine: the trainer as a child process that has the terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from service.errors import MissingExtraError

NEEDED = ("torch", "safetensors", "onnxruntime")


@dataclass(frozen=True)
class LocalRun:
    """What the command line says about a run here; the configuration says the rest."""

    configs: Sequence[Path]
    out: Path
    data: Path | None = None
    fold: int | None = None
    changes: Sequence[str] = field(default_factory=tuple)
    resume: bool = False
    as_json: bool = False
    start_from: Path | None = None
    version: str = "1"


def run_locally(run: LocalRun) -> int:
    """Train in a child process; gives its exit code.

    Raises:
        MissingExtraError: If the trainer is not installed.
    """
    require_trainer()
    process = subprocess.Popen(command_line(run), env=dict(os.environ))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the child hears Ctrl-C too and saves its state
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def command_line(run: LocalRun) -> list[str]:
    """The trainer's own command line."""
    command = [sys.executable, "-m", "trainer", "train", *map(str, run.configs)]
    command += ["--out", str(run.out)]
    command += [] if run.data is None else ["--data", str(run.data)]
    command += [] if run.fold is None else ["--fold", str(run.fold)]
    for change in run.changes:
        command += ["--set", change]
    command += ["--resume"] if run.resume else []
    command += ["--events"] if run.as_json else []
    command += [] if run.start_from is None else ["--start-from", str(run.start_from)]
    command += [] if run.version == "1" else ["--version", run.version]
    return command


def require_trainer() -> None:
    """Check that the trainer is installed.

    Raises:
        MissingExtraError: Says what to install.
    """
    missing = [name for name in NEEDED if not find_spec(name)]
    if missing:
        raise MissingExtraError(
            f'Training needs {", ".join(missing)}: pip install "warpline[trainer,worker-cpu]". '
            "With --url a server trains instead."
        )
