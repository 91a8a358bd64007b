"""What the connections of one process work with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from service.live.opening import LiveLimits, Opening
from service.live.sessions import Sessions
from service.live.turns import Turns


@dataclass(frozen=True)
class Desk:
    """What connections work with."""

    limits: LiveLimits
    sessions: Sessions
    turns: Turns
    ttl_s: float
    idle_timeout_s: float
    load_model: Callable[[Opening], None]
    is_stopping: asyncio.Event
