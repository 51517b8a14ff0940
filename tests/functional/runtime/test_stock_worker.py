"""A real Celery worker, with kombu's own SQS transport, on a queue that we publish to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from celery.result import AsyncResult

MODULE = """
from celery import Celery

app = Celery("worker", broker={broker!r}, backend={backend!r})
app.conf.update(
    broker_transport_options={{
        "region": {region!r}, "is_secure": False, "wait_time_seconds": 1,
        "predefined_queues": {{"celery": {{"url": {queue_url!r}}}}},
    }},
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)

@app.task(name="proj.add", bind=True)
def add(self, x, y=0):
    return [x + y, self.request.headers]

@app.task(name="proj.twice")
def twice(x):
    return 2 * x[0]
"""


@pytest.fixture
def worker(stack, tmp_path) -> Iterator[str]:
    """Start the worker and yield its result back end."""
    backend = f"file://{tmp_path}/results"
    (tmp_path / "results").mkdir()
    host = stack.settings.endpoint_url.removeprefix("http://")
    (tmp_path / "stock_worker.py").write_text(
        MODULE.format(
            broker=f"sqs://test:test@{host}",
            backend=backend,
            region=stack.settings.region,
            queue_url=stack.queue_url,
        )
    )
    command = [
        sys.executable, "-m", "celery", "-A", "stock_worker", "worker", "--pool=solo",
        "--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            yield backend
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_it_runs_what_we_publish(make_runtime, worker):
    runtime = make_runtime(result_backend=worker)

    @runtime.task(name="proj.add")
    def add(x, y=0):
        """Its body is the worker's."""

    @runtime.task(name="proj.twice")
    def twice(x):
        """Its body is the worker's."""

    plain = add.apply_async((40,), {"y": 2}, headers={"x-tenant": "acme"})
    compressed = add.apply_async((1, 2), compression="zlib")
    delayed = add.apply_async((3, 4), countdown=1)
    chained = (add.s(5, 5) | twice.s()).apply_async()

    assert plain.get(timeout=60) == [42, {"x-tenant": "acme"}]
    assert compressed.get(timeout=60)[0] == 3
    assert delayed.get(timeout=60)[0] == 7
    # The worker published this step, and ran it too.
    assert chained.get(timeout=60) == 20
    assert AsyncResult(plain.id, app=runtime.app).state == "SUCCESS"
