"""A bridge at work, with a session that is a fake, and images to send it."""

import threading
from contextlib import contextmanager

import numpy as np

from service.igtl.bridge import Bridge
from service.igtl.image import pack_image
from service.igtl.outputs import Outputs
from service.igtl.tally import Tally
from service.igtl.wire import Message
from tests.fakes.igtl_peers import PATIENCE_S, PATIENT, FakeService
from tests.igtl_contents import status_in

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
PLACE = np.diag((4.0, 1.3, 0.7, 1.0))


class Running:
    """A bridge that runs, and how it ended."""

    def __init__(self, service, outputs, **other):
        self.said = []
        self.tally = Tally(self.said.append)
        self.bridge = Bridge(service, outputs, self.tally, **({"limits": PATIENT} | other))
        self.port = self.bridge.peers.listen(0, "127.0.0.1")
        self.error = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            self.bridge.run()
        except Exception as error:
            self.error = error


@contextmanager
def running(service=None, wanted=("transform",), **other):
    made = Running(service or FakeService(), Outputs(frozenset(wanted)), **other)
    try:
        yield made
    finally:
        made.bridge.stop()
        made.thread.join(PATIENCE_S)
        assert not made.thread.is_alive()


def image(voxels=VOXELS, device="Image", stamp=5 << 32, affine=PLACE):
    return Message("IMAGE", pack_image(voxels, affine), device, stamp)


def status_of(peer):
    return status_in(peer.receive_kind("STATUS").content)
