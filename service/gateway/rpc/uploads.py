"""To be written: the part `Uploads` of the servicer."""

from service.gateway.rpc.clerk import Clerk


class Uploads(Clerk):
    """Nothing yet."""
