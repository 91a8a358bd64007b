"""To be written: the part `Downloads` of the servicer."""

from service.gateway.rpc.clerk import Clerk


class Downloads(Clerk):
    """Nothing yet."""
