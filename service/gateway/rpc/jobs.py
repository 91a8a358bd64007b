"""Jobs over gRPC: look, list, cancel, forget, and where their results are."""

from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import ValidationError
from service.gateway.closing import cancel_job, delete_job
from service.gateway.desk import Desk
from service.gateway.recording import handed_out
from service.gateway.rpc.clerk import Clerk, page_size, uuid_of
from service.gateway.rpc.messages import STATE_OF, job_message, result_messages
from service.jobs.job import Page
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller


class Jobs(Clerk):
    """The methods about jobs, but for `WatchJob`."""

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        """State, stage, progress, place in the queue, time left; summary or problem at the end."""
        return pb.GetJobResponse(
            job=await run_in_threadpool(_seen, self.desk, request.job_id, caller())
        )

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """Newest first, a page at a time."""
        page = await run_in_threadpool(_page, self.desk, request, caller())
        return pb.ListJobsResponse(
            jobs=[job_message(job) for job in page.jobs], next_page_token=page.cursor or ""
        )

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        """A queued job ends at once, a running one within seconds; a finished one stays."""
        job_id = uuid_of(request.job_id, "job_id")
        job = await run_in_threadpool(cancel_job, self.desk, job_id, caller())
        return pb.CancelJobResponse(job=job_message(job))

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Any) -> pb.DeleteJobResponse:
        """A job that has ended goes with its files."""
        job_id = uuid_of(request.job_id, "job_id")
        await run_in_threadpool(delete_job, self.desk, job_id, caller())
        return pb.DeleteJobResponse()

    async def ListResults(
        self, request: pb.ListResultsRequest, context: Any
    ) -> pb.ListResultsResponse:
        """Every result file with an address that needs no key, for a while."""
        job_id = uuid_of(request.job_id, "job_id")
        files = await run_in_threadpool(_results, self.desk, job_id, caller())
        return pb.ListResultsResponse(files=files)


def _seen(desk: Desk, job_id: str, owner: str) -> pb.Job:
    found = desk.stores.jobs.job(uuid_of(job_id, "job_id"), owner)
    return job_message(found, desk.stores.jobs.place(found.id))


def _page(desk: Desk, request: pb.ListJobsRequest, owner: str) -> Page:
    if not set(request.states) <= STATE_OF.keys():
        raise ValidationError("states holds a number that is no state.", field="states")
    return desk.stores.jobs.page(
        owner,
        states=[STATE_OF[number] for number in request.states],
        limit=page_size(request.page_size),
        cursor=request.page_token or None,
    )


def _results(desk: Desk, job_id: Any, owner: str) -> list[pb.ResultFile]:
    files = result_messages(desk, desk.stores.jobs.job(job_id, owner))
    handed_out(desk, owner, "url", job_id, [file.name for file in files])
    return files
