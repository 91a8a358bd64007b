"""What both clients of the gRPC API can do in one flow: a table."""

from service.client import rpc_cohorts, rpc_flows, rpc_models, rpc_storing, rpc_training
from service.client.methods import Method


class GrpcMethods:
    """The methods that `GrpcClient` and `AsyncGrpcClient` have in common.

    Those that wait or tell how far they are have each client's own.
    """

    register_series = Method(rpc_storing.register_series)
    store = Method(rpc_storing.store)
    register_dataset = Method(rpc_training.register_dataset)
    datasets = Method(rpc_training.datasets)
    dataset = Method(rpc_training.dataset)
    delete_dataset = Method(rpc_training.delete_dataset)
    register_cohort = Method(rpc_cohorts.register_cohort)
    cohort = Method(rpc_cohorts.cohort)
    cohorts = Method(rpc_cohorts.cohorts)
    delete_cohort = Method(rpc_cohorts.delete_cohort)
    job = Method(rpc_flows.job)
    jobs = Method(rpc_flows.jobs)
    results = Method(rpc_flows.results)
    download = Method(rpc_flows.download)
    cancel = Method(rpc_flows.cancel)
    delete = Method(rpc_flows.delete)
    models = Method(rpc_models.models)
    model = Method(rpc_models.model)
    promote = Method(rpc_models.promote)
    roll_back = Method(rpc_models.roll_back)
    delete_model = Method(rpc_models.delete)
    limits = Method(rpc_flows.limits)
