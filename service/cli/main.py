"""`warpline ...`. A command is imported when it is named, and what it needs when it runs."""

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from service.cli import leaving, screen
from service.cli.commands import Commands
from service.cli.shared_options import JSON_KEY
from service.errors import InternalError, WarplineError


class WarplineCommands(TyperGroup):
    """Turns errors into a sentence and an exit code: 0 done, 1 failed, 2 bad usage or input."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands()

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except WarplineError as error:
            self._end(ctx, error)
        except KeyboardInterrupt:
            screen.note("Stopped.")
            ctx.exit(screen.INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(screen.FAILED)
        except OSError as error:
            name = f" {error.filename}" if error.filename else ""
            self._end(ctx, WarplineError(f"{error.strerror or error}:{name}"))

    def _end(self, ctx: Any, error: WarplineError) -> None:
        if isinstance(error, InternalError) and os.environ.get("WARPLINE_LOG_LEVEL") == "DEBUG":
            traceback.print_exc()
        screen.show_error(error, as_json=bool(ctx.meta.get(JSON_KEY)))
        ctx.exit(screen.exit_code(error))


app = typer.Typer(
    cls=WarplineCommands,
    name="warpline",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Register pairs of medical images.

    The quickest way, on your own files, with no server:

        warpline register fixed.nii.gz moving.nii.gz --out result

    See it work on a real brain first: `warpline demo`. Is everything here: `warpline doctor`.
    """,
    epilog="Exit codes: 0 done, 1 failed, 2 bad usage or bad input.",
)


@app.callback()
def _warpline() -> None: ...


def run() -> None:
    """The command line, as a process of its own."""
    try:
        app()
    except SystemExit as end:
        leaving.leave(end.code)
        raise


if __name__ == "__main__":
    run()
