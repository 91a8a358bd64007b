"""A file that is about to come: whether it may, and the upload it becomes."""

from datetime import timedelta

from service.errors import BodyTooLargeError
from service.gateway.desk import Desk
from service.gateway.limits import MIB
from service.gateway.parts import Parts
from service.jobs.job import Upload


def announced(desk: Desk, owner: str, size: int, sha256: str | None, *, field: str) -> Upload:
    """An upload for a file of `size` bytes, of which none has come.

    Args:
        desk: The gateway's.
        owner: Whose it is.
        size: Bytes of the whole file.
        sha256: Of the whole file, hexadecimal, if it is known.
        field: The part of the request that told the size.

    Raises:
        BodyTooLargeError: If the service does not take files of that size.
        StorageFullError: If the disk is nearly full.
    """
    if size > desk.settings.max_upload_mib * MIB:
        raise BodyTooLargeError(
            f"This service takes files of up to {desk.settings.max_upload_mib} MiB.", field=field
        )
    desk.spool.require_room(size)
    upload = desk.stores.uploads.open(owner, size, timedelta(hours=desk.settings.upload_ttl_h))
    if sha256 is not None:
        Parts(desk.stores, upload).announce(sha256.lower())
    return upload
