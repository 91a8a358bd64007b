"""What both clients of the REST API can do in one flow: a table."""

from service.client import archives, fetching, orders, training
from service.client import cohorts as cohort_flows
from service.client import models as model_flows
from service.client.methods import Method


class RestMethods:
    """The methods that `Client` and `AsyncClient` have in common, but for those that wait."""

    register_series = Method(archives.register_series)
    store = Method(archives.store)
    register_dataset = Method(training.register_dataset)
    datasets = Method(training.datasets)
    dataset = Method(training.dataset)
    delete_dataset = Method(training.delete_dataset)
    register_cohort = Method(cohort_flows.register_cohort)
    cohort = Method(cohort_flows.cohort)
    cohorts = Method(cohort_flows.cohorts)
    delete_cohort = Method(cohort_flows.delete_cohort)
    job = Method(fetching.job)
    jobs = Method(fetching.jobs)
    results = Method(fetching.results)
    download = Method(fetching.download)
    cancel = Method(fetching.cancel)
    delete = Method(fetching.delete)
    models = Method(model_flows.models)
    model = Method(model_flows.model)
    promote = Method(model_flows.promote)
    roll_back = Method(model_flows.roll_back)
    delete_model = Method(model_flows.delete)
    limits = Method(orders.fetch_limits)
