"""What a local run keeps of what its function tells, and how another process asks for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from celery import Celery

from lambda_celery.conf import Settings
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.local import traffic as module
from lambda_celery.local.event_source_mapping import BatchReport
from lambda_celery.local.function import InvocationResult
from lambda_celery.local.traffic import Traffic
from lambda_celery.status.local_run import LocalRun


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds since 1970: what is set as its first item."""
    now = [1_000_000.0 // 60 * 60]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(Celery("proj", set_as_current=False), Settings(), 4)


def measured(task: str, **values: Any) -> str:
    return json.dumps({"_aws": {}, "QueueName": "mail", "TaskName": task, **values}) + "\n"


def test_runs_are_counted_in_the_minute_that_is_under_way(traffic, clock):
    # Given
    traffic.take(measured("proj.send", TasksSucceeded=[2], TaskDuration=[10.0, 10.1]))
    clock[0] += 60
    traffic.take(measured("proj.send", TasksFailed=[1], TaskDuration=[60_000.0]))
    # The queue's own line has the same figures again.
    traffic.take(json.dumps({"_aws": {}, "QueueName": "mail", "BatchSize": [3]}))

    # When
    status = traffic.status()

    # Then
    [task] = status.tasks
    assert (task.name, task.queue) == ("proj.send", "mail")
    assert task.succeeded[-2:] == (2, 0)
    assert task.failed[-2:] == (0, 1)
    assert (len(task.succeeded), task.duration_ms) == (60, 60_000)
    assert task.durations[-2] == (1, 1, 0, 0, 0, 0, 0, 0)
    assert task.durations[-1] == (0, 0, 0, 0, 0, 0, 0, 1)
    assert status.started is not None
    assert status.started.timestamp() == clock[0] - 59 * 60


def test_an_hour_later_nothing_is_kept(traffic, clock):
    traffic.take(measured("proj.send", TasksSucceeded=[1]))
    clock[0] += 3600
    traffic.take(measured("proj.send"))

    [task] = traffic.status().tasks

    assert sum(task.succeeded) == 0
    [hour] = traffic._tasks.values()
    assert len(hour._minutes) == 1


def test_an_invocation_counts_with_its_error(traffic, clock):
    for error in (None, "timed out after 5 s"):
        result = InvocationResult(None, error, 1.5)
        traffic.note_batch(BatchReport("url", {"Records": []}, result, frozenset(), error))

    [function] = traffic.status().functions

    assert (function.invocations[-1], function.errors[-1]) == (2, 1)
    assert (function.duration_ms, function.duration_maximum_ms) == (1500, 1500)


def test_attempts_and_tasks_are_bounded_and_odd_lines_are_left_alone(traffic, monkeypatch):
    monkeypatch.setattr(module, "_MAXIMUM_TASKS", 2)
    for line in ("", "{", "[]", "null", '{"TaskName": 1}'):
        traffic.take(line)
    for number in range(4):
        traffic.take(measured(f"proj.{number}", TasksSucceeded=[1]))
    for number in range(module.MAXIMUM_ATTEMPTS + 1):
        traffic.take(json.dumps({"end": "succeeded", "task_id": str(number)}))

    assert [each.name for each in traffic.status().tasks] == ["proj.0", "proj.1"]
    assert len(traffic.attempts("1").attempts) == 1
    [told] = traffic.attempts("0").left_out
    assert told == (
        "This run keeps the last 10,000 attempts that have ended. What runs now, and what was "
        "killed, is none of them."
    )


@contextmanager
def answering(body: Any) -> Iterator[int]:
    """Serve *body* as JSON for every path; yield the port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_another_process_reads_the_same_figures(traffic, clock):
    traffic.take(measured("proj.send", TasksSucceeded=[2], TaskDuration=[10.0, 60.0]))
    traffic.note_deployment()
    status = traffic.status()

    with answering(status.as_json()) as port:
        run = LocalRun.at(port)
        assert run is not None
        read = run.status()

    assert read.tasks == status.tasks
    assert read.functions == status.functions
    assert (read.time, read.started) == (status.time, status.started)


@pytest.mark.parametrize("body", [None, [], {}, {"time": 1}, "<html>"])
def test_another_program_is_no_local_run(body):
    with answering(body) as port:
        assert LocalRun.at(port) is None


def test_a_run_that_has_ended_is_told_in_a_sentence():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        run = LocalRun(f"http://127.0.0.1:{port}")

        assert LocalRun.at(port) is None
        with pytest.raises(LambdaCeleryError, match=r"does not answer: .* Start `celery -A proj"):
            run.attempts("a")
