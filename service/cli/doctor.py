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
        Path | None,
        typer.Argument(
            help="Explain this file, or this folder or zip of DICOM, instead.", show_default=False
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Check this machine, or explain a file or a folder of DICOM.

        warpline doctor

        warpline doctor suspicious.nii.gz

        warpline doctor exported-series/

    Of DICOM every volume is listed, with the number that `--fixed-series` and `--moving-series`
    take, what is odd about it and what will be done about that. Nothing of the patient is shown.

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

    if not file.exists():
        raise InvalidRequestError(f"There is no file or folder {file}.", field="file")
    facts = facts_of(file)
    volumes = facts.get("volumes", [])
    if as_json:
        screen.print_json(facts)
    else:
        _show({name: value for name, value in facts.items() if name != "volumes"})
        for volume in volumes:
            _show(volume)
    if volumes and all("problem" in volume for volume in volumes):
        raise typer.Exit(screen.BAD_INPUT)


def _show(facts: dict[str, Any]) -> None:
    shown = screen.listing("", "")
    shown.show_header = False
    for name, value in facts.items():
        for line in _lines(value.get("detail") if isinstance(value, dict) else value):
            shown.add_row(name.replace("_", " "), line)
    screen.stdout().print(shown)


def _lines(value: Any) -> list[str]:
    """A value as lines: numbers side by side, sentences and rows below each other."""
    if not isinstance(value, list):
        return [str(value)]
    if value and isinstance(value[0], int | float):
        return ["  ".join(f"{number:g}" for number in value)]
    return [line for part in value for line in _lines(part)]
