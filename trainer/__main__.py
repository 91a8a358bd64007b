"""`python -m trainer`: what `warpline train`, a trainer worker and `torchrun` start."""

import argparse
import errno
import json
import sys
from pathlib import Path

from service.errors import StorageFullError, WarplineError
from trainer.command_line import DONE, exit_code, show_error
from trainer.config import read_config
from trainer.config.recipes import found
from trainer.memory import keep_freed_memory


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 done, 1 failed, 2 bad input, 75 stopped and to be resumed."""
    chosen = _parser().parse_args(arguments)
    try:
        _train(chosen)
    except WarplineError as error:
        return _told(error, chosen)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _told(StorageFullError(), chosen)
    return DONE


def _told(error: WarplineError, chosen: argparse.Namespace) -> int:
    if chosen.events:
        sys.stdout.write(json.dumps({"event": "error", **error.problem()}) + "\n")
        sys.stdout.flush()
    else:
        show_error(error, as_json=False)
    return exit_code(error)


def _train(chosen: argparse.Namespace) -> None:
    changes = list(chosen.set)
    if chosen.data is not None:
        changes.append(f"data.root={json.dumps(str(chosen.data))}")
    if chosen.fold is not None:
        changes.append(f"data.splits.fold={chosen.fold}")
    config = read_config(found(chosen.config), changes)
    from trainer.running import RunOptions, run_training  # torch takes seconds

    options = RunOptions(
        resume=chosen.resume,
        events=chosen.events,
        is_silent=chosen.quiet,
        start_from=chosen.start_from,
        is_finished=not chosen.no_finish,
        version=chosen.version,
        compare=chosen.compare,
    )
    run_training(config, chosen.out, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a network, export and evaluate it")
    train.add_argument("config", type=Path, nargs="+", help="YAML files, later ones above")
    train.add_argument("--out", type=Path, required=True, help="folder of the training")
    train.add_argument("--data", type=Path, help="the data root")
    train.add_argument("--fold", type=int, help="which fold is the test, from 0")
    train.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument("--start-from", type=Path, help="begin with the weights of a checkpoint")
    train.add_argument("--version", default="1", help="of the model that is made")
    train.add_argument("--compare", type=Path, help="model folder to compare with")
    train.add_argument("--no-finish", action="store_true", help="neither export nor evaluate")
    train.add_argument("--events", action="store_true", help="JSON lines on stdout")
    train.add_argument("--quiet", action="store_true", help="show nothing")
    return parser


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
