"""Takes what scanners push, and makes jobs of it: `python -m service.pacs.listener`."""

import logging
import signal
import sys
import threading
from types import FrameType

from service.audit.log import AuditLog
from service.errors import ConfigurationError, UnavailableError
from service.jobs.intake import Intake
from service.pacs.incoming import Incoming
from service.pacs.pairing import Pairing
from service.pacs.peers import Peers
from service.pacs.receiver import Receiver
from service.pacs.rules import Listener
from service.settings import Settings, settings
from service.stores.build import Stores, open_stores

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
MIB = 1 << 20


def listen(config: Settings, stopping: threading.Event) -> None:
    """Receive and pair until told to stop.

    Raises:
        ConfigurationError: If no listener is set up, or its port is taken.
    """
    told = Peers.of(config).listener
    if told is None:
        raise ConfigurationError(
            "No listener is set up: the file of WARPLINE_PACS_FILE needs a table [listener]."
        )
    incoming = incoming_of(config, told)
    stores = open_stores(config)
    receiver = Receiver(told, incoming)
    try:
        port = _started(receiver, told)
        log.info("listener ae_title=%s port=%d rules=%d", told.ae_title, port, len(told.rules))
        pairing = Pairing(told, incoming, stores, intake_of(config, stores), AuditLog.of(config))
        while not stopping.wait(LOOK_EVERY_S):
            _look(pairing)
    finally:
        receiver.stop()
        stores.close()


def incoming_of(config: Settings, told: Listener) -> Incoming:
    """Where pushed objects lie."""
    return Incoming(
        config.data_dir / "incoming",
        most_bytes=told.max_spool_mib * MIB,
        most_objects=told.max_instances,
        min_free=config.min_free_mib * MIB,
    )


def intake_of(config: Settings, stores: Stores) -> Intake:
    """The way in that the gateway's jobs take too."""
    return Intake(
        stores.jobs,
        stores.doorbell,
        config.max_queued_jobs,
        config.max_jobs_per_key,
        config.job_deadline_s,
    )


def _started(receiver: Receiver, told: Listener) -> int:
    try:
        return receiver.start()
    except OSError as error:
        raise ConfigurationError(
            f"The listener cannot use {told.host}:{told.port} ({error.strerror})."
        ) from None


def _look(pairing: Pairing) -> None:
    try:
        pairing.look()
    except UnavailableError as error:
        log.warning("listener: %s", error.slug)


def main() -> None:
    config = settings()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s pid=%(process)d %(message)s",
        force=True,
    )
    logging.getLogger("service").setLevel(config.log_level)
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    listen(config, stopping)


if __name__ == "__main__":
    main()
