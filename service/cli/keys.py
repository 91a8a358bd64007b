"""`warpline keys`: API keys."""

import hashlib
import re
import secrets
from typing import Annotated

import typer

from service.cli import screen
from service.cli.shared_options import Json
from service.errors import ValidationError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
KEY_BYTES = 32

app = typer.Typer(no_args_is_help=True, help="Make API keys.")


@app.callback()
def keys() -> None:
    """Make API keys."""


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Who will use it; shown nowhere but in the setting.")],
    as_json: Json = False,
) -> None:
    """Make a key and the entry that lets a server know it.

    The server keeps only the key's SHA-256:

        warpline keys new alice

        WARPLINE_API_KEYS=alice:6ca1... warpline up --host 0.0.0.0
    """
    if not NAME.fullmatch(name):
        raise ValidationError(
            "A name begins with a letter or digit and goes on with letters, digits, '.', '_' "
            "and '-', 63 characters at most.",
            field="name",
        )
    key = "wl_" + secrets.token_urlsafe(KEY_BYTES)
    entry = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    if as_json:
        screen.print_json({"name": name, "key": key, "entry": entry})
        return
    console = screen.stdout()
    console.print(f"Key, for {name}:\n  {key}", soft_wrap=True)
    console.print(f"Entry, for the server's WARPLINE_API_KEYS:\n  {entry}", soft_wrap=True)
    screen.note("The key is shown only now. Clients send it as WARPLINE_API_KEY or --api-key.")
