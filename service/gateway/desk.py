"""What every route works with, made once at start-up."""

from dataclasses import dataclass, field
from threading import Event
from typing import Annotated

from fastapi import Depends, Request

from service.audit.log import AuditLog
from service.gateway.metrics import Metrics
from service.gateway.spool import Spool
from service.jobs.intake import Intake
from service.keys import Keys, Rates
from service.pacs.peers import Peers
from service.registration.files.limits import Limits
from service.settings import Settings
from service.stores.build import Stores
from service.stores.library import ModelLibrary


@dataclass(frozen=True)
class Desk:
    """The settings, the stores and what stands before them."""

    settings: Settings
    stores: Stores
    intake: Intake
    models: ModelLibrary
    spool: Spool
    metrics: Metrics
    keys: Keys
    rates: Rates  # shared by all faces, so that a key has one allowance
    audit: AuditLog
    peers: Peers = field(default_factory=Peers)
    stopping: Event = field(default_factory=Event)  # long answers end when it is set

    @property
    def file_limits(self) -> Limits:
        """What the header check refuses."""
        return Limits(self.settings.max_voxels, self.settings.max_axis)


def desk(request: Request) -> Desk:
    """The app's desk."""
    found: Desk = request.app.state.desk
    return found


AtDesk = Annotated[Desk, Depends(desk)]
