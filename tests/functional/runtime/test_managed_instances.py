"""The handler as on Lambda Managed Instances: in processes that awslambdaric forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lambda_celery.local.provision import provision
from lambda_celery.local.records import record
from lambda_runtime.running.attempt import current

APP = """
import asyncio, ctypes, os, signal, time
from pathlib import Path
from celery import Celery, signals

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.update(lambda_tasks=["*"], lambda_retry_backoff_seconds=0, worker_hijack_root_logger=False)
log = Path("runs.log")


def note(line):
    with log.open("a") as file:
        file.write(line + "\\n")


@signals.worker_process_init.connect
def started(**kwargs):
    note(f"init {os.getpid()}")


@app.task(name="proj.send")
def send(n):
    note(f"send {n}")


@app.task(name="proj.send_async")
async def send_async(n):
    await asyncio.sleep(0.01)
    note(f"send {n}")


@app.task(name="proj.meet")
def meet(n):
    note(f"meet {os.getpid()}")
    while len([line for line in log.read_text().splitlines() if line.startswith("meet")]) < 2:
        time.sleep(0.01)
    note(f"send {n}")


def is_first(name):
    note(f"{name} {os.getpid()}")
    before = [line for line in log.read_text().splitlines() if line.startswith(name)][:-1]
    if before:
        alive = Path(f"/proc/{before[0].split()[1]}/stat")
        state = alive.read_text().rpartition(")")[2].split()[0] if alive.exists() else "gone"
        note("beside it" if state in "RSDT" else "alone")
    return not before


@app.task(name="proj.hold")
def hold():
    if is_first("hold"):
        ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock


@app.task(name="proj.hang")
def hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # no limit comes through
    if is_first("hang"):
        signal.pause()
"""


@pytest.fixture
def managed(stack, local_function, event_source_mapping):
    """Start a function with two processes in an environment, and its event source mapping."""

    def start(timeout_seconds=20, **options):
        function = local_function(
            "lambda_runtime.handler",
            environment={**stack.environment, "LAMBDA_CELERY_APP": "proj:app"},
            timeout_seconds=timeout_seconds,
            maximum_concurrency=2,
            per_execution_environment_max_concurrency=2,
        )
        return event_source_mapping(stack, function, **{"maximum_concurrency": 2, **options})

    return start


def lines(tmp_path: Path, beginning: str = "") -> list[str]:
    found = (tmp_path / "runs.log").read_text().splitlines()
    return sorted(line for line in found if line.startswith(beginning))


def test_two_batches_run_at_the_same_time_in_two_processes(stack, publish, managed, tmp_path):
    """And each process has imported the handler for itself: nothing of it is shared."""
    for n in range(2):
        publish("proj.meet", (n,))
    managed(batch_size=1).wait_until_idle(60)

    assert lines(tmp_path, "send") == ["send 0", "send 1"]
    processes = {line.split()[1] for line in lines(tmp_path, "meet")}
    assert len(processes) == 2
    assert {line.split()[1] for line in lines(tmp_path, "init")} == processes


def test_a_burst_runs_each_once(stack, publish, managed, tmp_path):
    for n in range(60):
        publish("proj.send" if n % 2 else "proj.send_async", (n,))
    managed(batch_size=5).wait_until_idle(60)

    assert lines(tmp_path, "send") == sorted(f"send {n}" for n in range(60))
    assert len(lines(tmp_path, "init")) == 2
    assert stack.depth(stack.dead_letter_queue_url) == 0


@pytest.mark.parametrize("how", ["hold", "hang"])
def test_a_process_ends_itself_with_its_invocation(stack, publish, managed, tmp_path, how):
    """Nobody else ends it, and the next run must not be beside it."""
    provision(replace(stack.settings), function_timeout_seconds=2, visibility_timeout_seconds=4)
    publish(f"proj.{how}")
    for n in range(4):
        publish("proj.send", (n,))
    managed(timeout_seconds=2).wait_until_idle(90)

    assert len(lines(tmp_path, how)) == 2
    assert lines(tmp_path, "alone") == ["alone"]
    assert lines(tmp_path, "send") == [f"send {n}" for n in range(4)]
    assert stack.depth(stack.dead_letter_queue_url) == 0


def test_a_run_may_take_90_minutes_and_its_record_is_locked_as_long(runtime):
    limits, records = [], []

    @runtime.task
    def send():
        limits.append(current.get().soft_time_limit)
        records.extend(runtime.records())

    send.delay()
    ends_at = time.time() + 5400
    assert runtime.deliver(seconds=5400).all_deleted

    (limit,), (found,) = limits, records
    assert 900 < limit < 5400
    assert int(found["in_progress_expiration"]) / 1000 >= int(ends_at)


FORKS = """
import json, multiprocessing, os, sys, threading, time, uuid

os.environ["LAMBDA_CELERY_APP"] = "proj:app"
os.environ["_HANDLER"] = "lambda_runtime.handler"  # so that it is made when it is imported
import lambda_runtime


class Context:
    aws_request_id = str(uuid.uuid4())
    function_name = "f"
    ends_at = time.time() + 60

    def get_remaining_time_in_millis(self):
        return int((self.ends_at - time.time()) * 1000)


def run(event):
    assert lambda_runtime.handler(event, Context()) == {"batchItemFailures": []}


descriptors = map("/proc/self/fd/{}".format, os.listdir("/proc/self/fd"))
opened = [os.readlink(each) for each in descriptors if os.path.lexists(each)]
assert not [each for each in opened if each.startswith("socket:")], opened
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
fork = multiprocessing.get_context("fork").Process
processes = [fork(target=run, args=(event,)) for event in json.load(sys.stdin)]
for each in processes:
    each.start()
for each in processes:
    each.join()
assert [each.exitcode for each in processes] == [0] * len(processes)
"""


@pytest.mark.parametrize("concurrency", [1, 8])
def test_what_is_made_at_import_can_be_forked(stack, publish, tmp_path, concurrency):
    """It has no connection and no thread, and each process makes those that it needs."""
    for n in range(40):
        publish("proj.send" if n % 2 else "proj.send_async", (n,))
    messages = stack.messages()
    arn = stack.sqs.get_queue_attributes(QueueUrl=stack.queue_url, AttributeNames=["QueueArn"])
    records = [record(each, arn["Attributes"]["QueueArn"]) for each in messages]
    events = [{"Records": records[n::4]} for n in range(4)]
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps(events), text=True, capture_output=True, check=False, cwd=tmp_path,
        env={
            **os.environ, **stack.environment,
            "LAMBDA_CELERY_CONCURRENCY": str(concurrency),
            "LAMBDA_CELERY_ASYNC_CONCURRENCY": str(concurrency),
        },
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert lines(tmp_path, "send") == sorted(f"send {n}" for n in range(40))
