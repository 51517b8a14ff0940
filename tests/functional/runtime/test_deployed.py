"""The handler string ``lambda_runtime.handler`` in real awslambdaric processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery

from lambda_celery import install
from lambda_celery.local.provision import provision

APP = """
import os, signal
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


@app.task(name="proj.hang")
def hang():
    note("hang")
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # swallows the runtime's own limit
    if not Path("recovered").exists():
        Path("recovered").touch()
        signal.pause()
"""


@pytest.fixture
def publish(stack, tmp_path):
    """Send a task by name, as a web process does that knows nothing of its code."""
    (tmp_path / "proj.py").write_text(APP)
    app = Celery("web", broker="amqp://guest@127.0.0.1:1//", set_as_current=True)
    app.conf.update(
        lambda_tasks=["*"],
        lambda_queue_url=stack.queue_url,
        lambda_endpoint_url=stack.settings.endpoint_url,
        lambda_region=stack.settings.region,
    )
    install(app)
    return app.send_task


@pytest.fixture
def deployed(stack, local_function, event_source_mapping):
    def start(**options):
        function = local_function(
            "lambda_runtime.handler",
            environment={**stack.environment, "LAMBDA_CELERY_APP": "proj:app"},
            timeout_seconds=2,
            maximum_concurrency=1,
        )
        # Killed processes leave their batch hidden: it comes back as soon as is consistent.
        provision(replace(stack.settings), function_timeout_seconds=2, visibility_timeout_seconds=3)
        return event_source_mapping(stack, function, **{"maximum_concurrency": 1, **options})

    return start


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "runs.log").read_text().splitlines()


def test_a_burst_runs_each_once(stack, publish, deployed, tmp_path):
    for n in range(50):
        publish("proj.send", (n,))
    deployed().wait_until_idle(60)
    ran = lines(tmp_path)
    assert sorted(line for line in ran if line.startswith("send")) == sorted(
        f"send {n}" for n in range(50)
    )
    assert len([line for line in ran if line.startswith("init")]) == 1
    assert stack.depth(stack.dead_letter_queue_url) == 0


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
