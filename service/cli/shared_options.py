"""Options that several commands have."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.errors import MissingExtraError

if TYPE_CHECKING:
    from service.client.rpc_sync import GrpcClient
    from service.client.sync import Client

JSON_KEY = "warpline.json"
DEFAULT_URL = "http://127.0.0.1:8080"


def _remember(context: typer.Context, value: bool) -> bool:
    """Errors are printed by the root command, which must know how."""
    context.meta[JSON_KEY] = value
    return value


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on stdout, for scripts; errors too.",
        callback=_remember,
        is_eager=True,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="WARPLINE_URL",
        help="Use this server instead of working in this process: http://... or grpc://HOST:PORT.",
        rich_help_panel="Server",
    ),
]
ServerUrl = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="WARPLINE_URL",
        help="The server: http://... or grpc://HOST:PORT.",
        rich_help_panel="Server",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="WARPLINE_API_KEY",
        help="Where the server asks for one.",
        rich_help_panel="Server",
        show_envvar=True,
    ),
]


def is_rpc(url: str) -> bool:
    """Whether an address is one of gRPC."""
    return url.startswith(("grpc://", "grpcs://"))


def connect(url: str, api_key: str | None) -> "Client | GrpcClient":
    """A client of the server: by REST at http://..., by gRPC at grpc://HOST:PORT or grpcs://.

    Raises:
        MissingExtraError: If httpx or grpcio is not installed.
    """
    try:
        from service import client

        return client.connect(url, api_key)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'Talking to a server needs the extra `client`: pip install "warpline[client]".'
        ) from error
