"""`warpline doctor`: what is here and works, or what a file is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.shared_options import ApiKey, Json, Url
from service.errors import InvalidRequestError

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="Explain this file instead.", show_default=False)
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Check this machine, or explain a file.

        warpline doctor

        warpline doctor suspicious.nii.gz

    Exit code 0 when everything needed works, 1 when something does not, 2 when the file would be
    refused.
    """
    if file is not None:
        _explain(file, as_json=as_json)
        return
    from service.cli.checks import check_machine, check_server

    found = check_machine()
    if url is not None:
        found.append(check_server(url, api_key))
    if as_json:
        screen.print_json(
            {
                "healthy": all(check.status != "fail" for check in found),
                "checks": [
                    {"name": check.name, "status": check.status, "detail": check.detail}
                    for check in found
                ],
            }
        )
    else:
        from rich.text import Text

        shown = screen.listing("", "", "")
        shown.show_header = False
        for check in found:
            mark = Text(check.status, COLOURS[check.status])
            shown.add_row(mark, check.name, check.detail)
        screen.stdout().print(shown)
    if any(check.status == "fail" for check in found):
        raise typer.Exit(screen.FAILED)


def _explain(file: Path, *, as_json: bool) -> None:
    from service.cli.file_facts import facts_of

    if not file.is_file():
        raise InvalidRequestError(f"There is no file {file}.", field="file")
    facts = facts_of(file)
    if as_json:
        screen.print_json(facts)
        return
    shown = screen.listing("", "")
    shown.show_header = False
    for name, value in facts.items():
        for line in _lines(value):
            shown.add_row(name.replace("_", " "), line)
    screen.stdout().print(shown)


def _lines(value: Any) -> list[str]:
    """A value as lines: numbers side by side, sentences and rows below each other."""
    if not isinstance(value, list):
        return [str(value)]
    if value and isinstance(value[0], int | float):
        return ["  ".join(f"{number:g}" for number in value)]
    return [line for part in value for line in _lines(part)]
