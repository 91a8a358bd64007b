"""The live process: `python -m service.live.main`."""

import asyncio
import logging
import signal
import sys

import pydantic

from service.errors import UnavailableError, WarplineError
from service.live.server import LiveServer
from service.rpc.allocator import keep_message_buffers
from service.settings import Settings, settings

# A compiled kernel holds no lock, but between two of them Python code does: frames that arrive wait
# no longer than this for it.
SWITCH_INTERVAL_S = 0.001

logger = logging.getLogger("service.live")


async def serve(chosen: Settings) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = LiveServer(chosen)
    await server.start()
    logger.info(
        "live sessions on %s:%d, probes on port %d", chosen.live_host, server.port, server.http_port
    )
    await stop.wait()
    logger.info("stopping")
    await server.stop()


def main() -> int:
    """Run the process; the exit code is 2 when it is not set up correctly, 1 for an outage."""
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="WARNING"
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_message_buffers()
    try:
        chosen = settings()
        logging.getLogger("service").setLevel(chosen.log_level)
        asyncio.run(serve(chosen))
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


if __name__ == "__main__":
    raise SystemExit(main())
