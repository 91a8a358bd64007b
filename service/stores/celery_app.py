"""Celery as a doorbell: its settings, chosen so that a lost broker loses nothing."""

from typing import Any

RING_TASK = "warpline.ring"
# A ring is forgotten work, not work: redelivering it late does not matter.
VISIBILITY_TIMEOUT_S = 24 * 3600
# One ring empties the queues for this long; then Celery gets its turn.
DRAIN_S = 30


def make_app(redis_url: str) -> Any:
    """A Celery app on this Redis. Make it in the process (and after the fork) that uses it."""
    from celery import Celery  # slow to import, and the embedded stack has no use for it

    app = Celery("warpline", broker=redis_url, set_as_current=False)
    app.conf.update(
        # The database is the truth; no state is read from Celery.
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_send_sent_event=False,
        worker_send_task_events=False,
        # One ring at a time, given back when its worker dies.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        # A broker that is down is waited for by workers, and not by whoever rings.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry=False,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,  # without it a publish to a frozen Redis hangs for ever
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": "warpline:",
        },
        visibility_timeout=VISIBILITY_TIMEOUT_S,
    )
    return app
