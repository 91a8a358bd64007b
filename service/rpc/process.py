"""How a server process ends."""

from collections.abc import Callable
from logging import Logger

import pydantic

from service.errors import UnavailableError, WarplineError


def exit_code(serve: Callable[[], None], logger: Logger) -> int:
    """Serve until told to stop; 2 when the process is not set up correctly, 1 for an outage."""
    try:
        serve()
    except pydantic.ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            logger.error("%s: %s", ".".join(map(str, fault["loc"])) or "settings", fault["msg"])
        return 2
    except UnavailableError as error:
        logger.error("cannot start: %s", error.detail)
        return 1
    except (WarplineError, OSError) as error:
        logger.error("cannot start: %s", error)
        return 2
    return 0
