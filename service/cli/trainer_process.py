"""Commands that the trainer carries out, as a child process that has the terminal."""

import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from service.cli.train_local import require_trainer


def run_trainer(module: str, arguments: Sequence[str]) -> int:
    """Run a module of the trainer; gives its exit code.

    Raises:
        MissingExtraError: If the trainer is not installed.
    """
    require_trainer()
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the child hears Ctrl-C too and saves what it can
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def options(**given: object) -> list[str]:
    """Options as a command line: None is left out, True is a flag, lists repeat."""
    line: list[str] = []
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(option)
        elif value is not None and value is not False:
            is_many = isinstance(value, Iterable) and not isinstance(value, str | Path)
            for one in value if is_many else [value]:  # type: ignore[attr-defined]
                line += [option, str(one)]
    return line
