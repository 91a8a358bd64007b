"""What both clients tell httpx."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import urljoin

import httpx

from service.client.software import software
from service.client.steps import Call, Lost, Reply

TIMEOUT = httpx.Timeout(connect=10, read=120, write=120, pool=60)


def client_options() -> dict[str, Any]:
    """Keyword arguments of an httpx client. The key is added per call: see `request_options`."""
    return {
        "headers": {"user-agent": software(), "accept": "application/json"},
        "timeout": TIMEOUT,
        "follow_redirects": False,
    }


def request_options(call: Call, url: str, api_key: str | None, opened: ExitStack) -> dict[str, Any]:
    """Keyword arguments of httpx's `request`; files are opened until `opened` ends."""
    headers = dict(call.headers)
    if api_key is not None and call.is_to_the_api:
        headers["authorization"] = f"Bearer {api_key}"
    files = [
        (role, (role, opened.enter_context(path.open("rb")), "application/octet-stream"))
        for role, path in call.files.items()
    ]
    return {
        "method": call.method,
        "url": address(call, url),
        "params": dict(call.query) or None,
        "headers": headers,
        "json": call.json,
        "content": call.content,
        "data": dict(call.form) if call.form is not None else None,
        "files": files or None,
    }


def address(call: Call, url: str) -> str:
    """Where a call goes: below the server's address, or where a signed URL points."""
    base = url.rstrip("/")
    return base + call.path if call.is_to_the_api else urljoin(base + "/", call.path)


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """An httpx response as a reply."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body)


def lost(error: httpx.TransportError) -> Lost:
    """A broken connection as a reply."""
    return Lost(str(error) or type(error).__name__)


def save_mode(response: httpx.Response) -> str:
    """How the file of a download is opened."""
    return "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
