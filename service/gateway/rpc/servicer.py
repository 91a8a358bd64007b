"""`warpline.v1.WarplineService`, put together from its parts."""

from service.gateway.rpc.about import About
from service.gateway.rpc.cohorts import Cohorts
from service.gateway.rpc.datasets import Datasets
from service.gateway.rpc.download import Downloads
from service.gateway.rpc.inspecting import Inspecting
from service.gateway.rpc.jobs import Jobs
from service.gateway.rpc.models import Models
from service.gateway.rpc.orders import Orders
from service.gateway.rpc.register import Registering
from service.gateway.rpc.uploads import Uploads
from service.gateway.rpc.watching import Watching
from service.pb.warpline_pb2_grpc import WarplineServiceServicer


class Warpline(
    Jobs,
    Watching,
    Orders,
    Cohorts,
    Models,
    Datasets,
    About,
    Inspecting,
    Uploads,
    Registering,
    Downloads,
    WarplineServiceServicer,
):
    """Everything that the REST API does."""
