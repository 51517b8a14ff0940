"""The handler as SnapStart has it: initialised once, and copied into each environment."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import snapshot_restore_py
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot

from lambda_celery import aws
from lambda_celery.local.provision import provision

# Whatever is drawn at random, each process of it begins with the same state: as copies do.
APP = """
import json, os, random
from pathlib import Path
from celery import Celery
from lambda_celery import aws, install
from lambda_celery.conf import Settings

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.update(lambda_tasks=["*"], lambda_retry_backoff_seconds=0, worker_hijack_root_logger=False)
log = Path("runs.log")


def sockets():
    found = set()
    for each in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{each}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


before = sockets()
settings = Settings.from_app(app)
# By botocore's connections, and by those of the frequent operations.
aws.client("sqs", settings).get_queue_attributes(QueueUrl=settings.queue_url)
key = {"id": {"S": "nothing"}}
aws.client("dynamodb", settings).get_item(TableName=settings.idempotency_table, Key=key)
connected = sockets() - before
node = app.oid
random.seed(7)


@app.task(name="proj.draw")
def draw(n):
    line = {
        "n": n,
        "connected": len(connected),
        "kept": len(connected & sockets()),
        "drawn": random.random(),
        "is_same_node": app.oid == node,
    }
    with log.open("a") as file:
        file.write(json.dumps(line) + "\\n")
"""


@pytest.fixture
def environment(stack, publish, local_function, event_source_mapping, tmp_path):
    """Run one message in an environment of its own, and return what its task has noted."""
    provision(replace(stack.settings), function_timeout_seconds=5, visibility_timeout_seconds=30)

    def run(n, initialization_type, **variables):
        publish("proj.draw", (n,))
        function = local_function(
            "lambda_runtime.handler",
            environment={
                **stack.environment,
                "LAMBDA_CELERY_APP": "proj:app",
                "AWS_LAMBDA_INITIALIZATION_TYPE": initialization_type,
                **variables,
            },
            maximum_concurrency=1,
        )
        mapping = event_source_mapping(stack, function, maximum_concurrency=2)
        mapping.wait_until_idle(60)
        mapping.stop()
        lines = [json.loads(each) for each in (tmp_path / "runs.log").read_text().splitlines()]
        (noted,) = [each for each in lines if each["n"] == n]
        return noted

    return run


@pytest.mark.parametrize("variables", [{}, {"LAMBDA_CELERY_CONCURRENCY": "4"}])
def test_two_restored_environments_have_nothing_in_common(environment, variables):
    one, other = (environment(n, "snap-start", **variables) for n in range(2))

    assert one["drawn"] != other["drawn"]
    assert one["connected"] == other["connected"] == 2
    assert one["kept"] == other["kept"] == 0
    assert not one["is_same_node"]


def test_without_snap_start_what_is_initialised_is_used(environment):
    """And two that begin with the same state draw the same, which the test above relies on."""
    one, other = (environment(n, "on-demand") for n in range(2))

    assert one["drawn"] == other["drawn"]
    assert one["kept"] == one["connected"] == 2
    assert one["is_same_node"]


def test_children_are_forked_after_the_restore(environment):
    one, other = (environment(n, "snap-start", LAMBDA_CELERY_PROCESSES="2") for n in range(2))

    assert one["drawn"] != other["drawn"]
    assert one["kept"] == other["kept"] == 0


@pytest.fixture
def snap_start(monkeypatch):
    """Have handlers of this process register what Lambda calls around a snapshot."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    for get in (snapshot_restore_py.get_before_snapshot, snapshot_restore_py.get_after_restore):
        monkeypatch.setattr(snapshot_restore_py, f"_{get.__name__[4:]}_registry", [])


@pytest.mark.parametrize("concurrency", [1, 4])
def test_what_has_run_before_the_snapshot_leaves_no_connection_and_no_owner(
    make_runtime, snap_start, faults, concurrency
):
    """Some call their handler before the snapshot, so that all is loaded."""
    others = set(threading.enumerate())  # what other tests have left
    runtime = make_runtime(lambda_concurrency=concurrency)
    ran = []

    @runtime.task
    def send(n):
        ran.append((n, runtime.records()[0]["owner"].partition("-")[0]))

    send.delay(0)
    assert runtime.deliver().all_deleted
    fast = aws.client("dynamodb", runtime.settings)
    started = set(threading.enumerate()) - others
    workers = [each for each in started if each.name.startswith("task")]
    assert bool(workers) is (concurrency > 1)
    run_before_snapshot()
    for each in workers:  # which have connections of their own, such as Redis's
        each.join(60)
        assert not each.is_alive()
    assert not fast.connections._idle
    assert "lambda-celery-table" not in {each.name for each in set(threading.enumerate()) - others}
    run_after_restore()
    runtime.stack.dynamodb.delete_item(
        TableName=runtime.settings.idempotency_table, Key={"id": {"S": runtime.records()[0]["id"]}}
    )
    send.delay(1)
    assert runtime.deliver().all_deleted

    (first, owner), (second, other_owner) = ran
    assert (first, second) == (0, 1)
    assert owner != other_owner


def test_children_that_were_forked_before_the_snapshot_are_ended(
    make_runtime, snap_start, tmp_path
):
    runtime = make_runtime(lambda_processes=2)
    log = tmp_path / "pids"

    @runtime.task
    def send():
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()}\n")

    for _ in range(2):
        send.delay()
        assert runtime.deliver().all_deleted
        run_before_snapshot()
        run_after_restore()

    before, after = map(int, log.read_text().split())
    assert before != after
    for each in (before, after):
        with pytest.raises(ProcessLookupError):
            os.kill(each, 0)
