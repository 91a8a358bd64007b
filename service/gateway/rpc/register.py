"""To be written: the part `Registering` of the servicer."""

from service.gateway.rpc.clerk import Clerk


class Registering(Clerk):
    """Nothing yet."""
