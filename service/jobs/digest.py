"""Whether two requests ask for the same."""

import hashlib
import json
from typing import Any

from service.jobs.job import InputFile, Request


def request_digest(request: Request) -> str:
    """SHA-256 of what was asked; the same files sent twice count as the same.

    Where a file's digest is known it stands for the file, for a repeated upload has a new key.
    """
    asked: dict[str, Any] = {
        "kind": str(request.kind),
        "inputs": {role: _identity(file) for role, file in sorted(request.inputs.items())},
        "options": request.options,
    }
    if request.store_to is not None:
        asked["store_to"] = request.store_to
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(file: InputFile) -> str | None:
    if file.pacs is not None:
        return "/".join(("pacs:", file.pacs.pacs, file.pacs.study, file.pacs.series))
    return file.sha256 or file.key or file.url
