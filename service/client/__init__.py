"""Warpline from Python: `Client`, and `AsyncClient` with the same methods.

from service.client import Client

with Client("http://127.0.0.1:8080") as warpline:
    job = warpline.register("fixed.nii.gz", "moving.nii.gz", wait=True)
    warpline.download(job.id, "result")

`GrpcClient` and `AsyncGrpcClient` do the same by gRPC, with uploads, watches and downloads that go
on where a connection broke. `LiveSession` and `AsyncLiveSession` send the frames of a scanner and
give an answer to each. `connect(url)` takes whichever the address asks for.

Who only speaks REST needs no grpcio: the rest is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from service.client.aio import AsyncClient
from service.client.sync import Client

if TYPE_CHECKING:
    from service.client.live import LiveSession
    from service.client.live_aio import AsyncLiveSession
    from service.client.rpc_aio import AsyncGrpcClient
    from service.client.rpc_sync import GrpcClient

__all__ = [
    "AsyncClient",
    "AsyncGrpcClient",
    "AsyncLiveSession",
    "Client",
    "GrpcClient",
    "LiveSession",
    "connect",
]
LAZY = {
    "AsyncGrpcClient": "service.client.rpc_aio",
    "AsyncLiveSession": "service.client.live_aio",
    "GrpcClient": "service.client.rpc_sync",
    "LiveSession": "service.client.live",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)


def connect(url: str, api_key: str | None = None) -> "Client | GrpcClient":
    """A client for an address: http://, https://, grpc:// or grpcs://."""
    if url.startswith(("grpc://", "grpcs://")):
        from service.client.rpc_sync import GrpcClient

        return GrpcClient(url, api_key)
    return Client(url, api_key)
