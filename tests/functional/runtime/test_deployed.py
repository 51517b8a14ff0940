"""The handler string ``lambda_runtime.handler`` in real awslambdaric processes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lambda_celery.local.provision import provision

APP = """
import os, signal, time
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


@app.task(name="proj.die")
def die():
    note(f"die {os.getpid()}")
    if not Path("recovered").exists():
        Path("recovered").touch()
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="proj.die_with_parent")
def die_with_parent():
    note("dies with parent")
    if not Path("recovered").exists():
        Path("recovered").touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1)
        note("outlived")


@app.task(name="proj.hang")
def hang():
    note("hang")
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # no limit comes through
    if not Path("recovered").exists():
        Path("recovered").touch()
        signal.pause()


@signals.task_success.connect
def succeeded(sender, **kwargs):
    if sender.name == "proj.fork":
        note("succeeded")


@app.task(name="proj.fork")
def fork():
    if (child := os.fork()) == 0:
        note("child")
        return "the child comes back"
    os.waitpid(child, 0)
    if (child := os.fork()) == 0:
        raise SystemExit(7)
    _, status = os.waitpid(child, 0)
    note(f"parent of {os.waitstatus_to_exitcode(status)}")


@app.task(name="proj.set_alarm")
def set_alarm():
    note("alarm")
    signal.setitimer(signal.ITIMER_REAL, 0.2)  # by default it kills the process


@app.task(name="proj.outlive_alarm")
def outlive_alarm():
    note("outlives")
    time.sleep(0.5)
"""


@pytest.fixture
def deployed(stack, local_function, event_source_mapping):
    def start(*, processes=0, **options):
        function = local_function(
            "lambda_runtime.handler",
            environment={
                **stack.environment,
                "LAMBDA_CELERY_APP": "proj:app",
                "LAMBDA_CELERY_PROCESSES": str(processes),
            },
            timeout_seconds=2,
            maximum_concurrency=1,
        )
        # Killed processes leave their batch hidden: it comes back as soon as is consistent.
        provision(replace(stack.settings), function_timeout_seconds=2, visibility_timeout_seconds=3)
        return event_source_mapping(stack, function, **{"maximum_concurrency": 1, **options})

    return start


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "runs.log").read_text().splitlines()


@pytest.mark.parametrize("processes", [0, 2])
def test_a_burst_runs_each_once(stack, publish, deployed, tmp_path, processes):
    for n in range(50):
        publish("proj.send", (n,))
    deployed(processes=processes).wait_until_idle(60)
    ran = lines(tmp_path)
    assert sorted(line for line in ran if line.startswith("send")) == sorted(
        f"send {n}" for n in range(50)
    )
    assert len([line for line in ran if line.startswith("init")]) == (processes or 1)
    assert stack.depth(stack.dead_letter_queue_url) == 0


def test_the_children_of_a_process_that_is_killed_end_with_it(stack, publish, deployed, tmp_path):
    publish("proj.die_with_parent")
    deployed(processes=2).wait_until_idle(60)

    ran = lines(tmp_path)
    killers = [line.split()[1] for line in ran if line.startswith("dies with parent")]
    children = [int(line.split()[1]) for line in ran if line.startswith("init")]
    assert len(children) == 4
    for each in children[:2]:
        with pytest.raises(ProcessLookupError):
            os.kill(each, 0)
    assert len(killers) == 2
    assert "outlived" not in ran


@pytest.mark.parametrize("how", ["die", "hang"])
def test_a_process_that_dies_in_mid_batch_loses_nothing_and_repeats_no_completed_task(
    stack, publish, deployed, tmp_path, how
):
    """Killed by a signal, and killed by Lambda's time-out."""
    for n in range(4):
        publish("proj.send", (n,))
    publish(f"proj.{how}")
    for n in range(4, 8):
        publish("proj.send", (n,))
    deployed().wait_until_idle(90)

    ran = lines(tmp_path)
    assert sorted(line for line in ran if line.startswith("send")) == [
        f"send {n}" for n in range(8)
    ]
    assert len([line for line in ran if line.startswith(how)]) == 2
    assert len([line for line in ran if line.startswith("init")]) == 2
    assert stack.depth(stack.dead_letter_queue_url) == 0


@pytest.mark.parametrize("processes", [0, 1])
def test_a_child_that_a_task_forks_does_not_answer_for_its_parent(
    stack, publish, deployed, tmp_path, processes
):
    publish("proj.fork")
    publish("proj.send", (1,))
    deployed(processes=processes).wait_until_idle(60)

    ran = lines(tmp_path)
    assert sorted(line for line in ran if not line.startswith("init")) == [
        "child", "parent of 7", "send 1", "succeeded",
    ]  # fmt: skip
    assert stack.depth(stack.dead_letter_queue_url) == 0


def test_an_alarm_that_a_task_leaves_behind_strikes_no_other(stack, publish, deployed, tmp_path):
    publish("proj.set_alarm")
    publish("proj.outlive_alarm")
    deployed().wait_until_idle(60)

    ran = lines(tmp_path)
    assert len([line for line in ran if line.startswith("init")]) == 1
    assert len([line for line in ran if line == "outlives"]) == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"LAMBDA_CELERY_APP": ""}, "Set LAMBDA_CELERY_APP"),
        ({"LAMBDA_CELERY_APP": "nowhere:app"}, "'nowhere:app', but that is no Celery app"),
        ({"LAMBDA_CELERY_IDEMPOTENCY_TABLE": ""}, "LAMBDA_CELERY_IDEMPOTENCY_TABLE"),
        ({"LAMBDA_CELERY_MAX_RECEIVE_COUNT": "many"}, "whole number, 1 or more"),
    ],
)
def test_a_misconfigured_function_says_in_a_sentence_what_to_set(
    stack, publish, local_function, changed, sentence
):
    function = local_function(
        "lambda_runtime.handler",
        environment={**stack.environment, "LAMBDA_CELERY_APP": "proj:app", **changed},
    )
    result = function.invoke({"Records": []})
    assert sentence in str(result.error)
    assert "botocore" not in str(result.error)
