"""The OpenAPI document as a file: `python -m service.gateway.snapshot docs/openapi.json`."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from service.gateway.app import create_app
from service.settings import Settings


def snapshot() -> str:
    """The document as text, the same on every machine."""
    with TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        document = app.openapi()
        app.state.desk.stores.close()
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(snapshot(), encoding="utf-8")
