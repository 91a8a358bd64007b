"""Files that were sent to the service before a test begins."""

import hashlib
from datetime import timedelta

from service.jobs.job import InputFile
from service.stores.build import Stores


def sent(stores: Stores, data: bytes, owner: str = "a") -> InputFile:
    """A whole upload, with the row that it has as soon as its first byte is taken.

    Without one it is nobody's, and a worker's first sweep removes it if no job names it yet.
    """
    digest = hashlib.sha256(data).hexdigest()
    upload = stores.uploads.open(owner, len(data), timedelta(hours=1))
    stores.blobs.put_bytes(upload.key, data)
    stores.uploads.advance(upload.id, len(data), digest)
    return InputFile(key=upload.key, sha256=digest)
