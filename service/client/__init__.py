"""Warpline from Python: `Client`, and `AsyncClient` with the same methods.

from service.client import Client

with Client("http://127.0.0.1:8080") as warpline:
    job = warpline.register("fixed.nii.gz", "moving.nii.gz", wait=True)
    warpline.download(job.id, "result")
"""

from service.client.aio import AsyncClient
from service.client.sync import Client

__all__ = ["AsyncClient", "Client"]
