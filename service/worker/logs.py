"""How workers log: one line an event, never a file name, a text or a URL."""

import logging
import sys


def set_up_logging(level: str) -> None:
    """Log to standard error; libraries speak up only when something is wrong."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s pid=%(process)d %(message)s",
        force=True,
    )
    logging.getLogger("service").setLevel(level)
