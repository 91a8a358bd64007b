"""The live process: `python -m service.live.main`."""

import asyncio
import logging
import signal
import sys

from service.live.server import LiveServer
from service.rpc.allocator import keep_message_buffers
from service.rpc.process import exit_code
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
    return exit_code(_serve_as_set, logger)


def _serve_as_set() -> None:
    chosen = settings()
    logging.getLogger("service").setLevel(chosen.log_level)
    asyncio.run(serve(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
