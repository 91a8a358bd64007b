"""`warpline.v1.WarplineService`, put together from its parts."""

from service.gateway.rpc.download import Downloads
from service.gateway.rpc.jobs import Jobs
from service.gateway.rpc.register import Registering
from service.gateway.rpc.uploads import Uploads
from service.pb.warpline_pb2_grpc import WarplineServiceServicer


class Warpline(Jobs, Uploads, Registering, Downloads, WarplineServiceServicer):
    """Everything that the REST API does."""
