"""`warpline audit`: whether the audit log is whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import screen
from service.cli.shared_options import Json
from service.errors import ValidationError

if TYPE_CHECKING:
    from service.audit.chain import Head

app = typer.Typer(no_args_is_help=True, help="Check the audit log.")


@app.callback()
def audit() -> None:
    """Check the audit log."""


@app.command("verify")
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(help="The log; by default that of the settings.", show_default=False),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="N:HASH",
            help="The record before the oldest that is kept, as an earlier check showed it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for records that were changed, removed, inserted or cut off, and say where.

        warpline audit verify

        warpline audit verify /var/log/warpline/audit.jsonl

    The key is WARPLINE_AUDIT_KEY. Exit code 0 when the log is whole, 1 when it is not.
    """
    from service.audit.log import AuditLog
    from service.audit.verify import verify as followed
    from service.settings import Settings

    log = AuditLog.of(Settings())
    found = followed(file or log.path, log.key, after=_head(after) if after else None)
    told = f"{found.last.number}:{found.last.digest}"
    if as_json:
        screen.print_json({"records": found.records, "files": found.files, "last": told})
        return
    screen.stdout().print(
        f"Whole: {found.records} records in {found.files} files. The last is\n  {told}",
        soft_wrap=True,
    )


def _head(text: str) -> "Head":
    from service.audit.chain import Head

    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise ValidationError("--after is N:HASH, as `warpline audit verify` shows it.")
    return Head(int(number), digest)
