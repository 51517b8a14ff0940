"""Log lines as an operator reads them, and the signals around their configuration."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from celery import signals
from celery.exceptions import Reject
from celery.utils.log import get_logger, get_task_logger


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, which the handler takes over as a worker does, and gets back here.

    So it does the tasks' logger, for a person's log.
    """
    root, of_tasks = logging.getLogger(), get_logger("celery.task")
    before = root.handlers[:], root.level, of_tasks.handlers[:], of_tasks.propagate
    # A worker of another test may have taken it over.
    of_tasks.setLevel(logging.NOTSET)
    of_tasks.handlers[:], of_tasks.propagate = [], True
    yield root
    root.handlers[:], level, of_tasks.handlers[:], of_tasks.propagate = before
    root.setLevel(level)


@pytest.fixture
def hijacking(make_runtime):
    return make_runtime(worker_hijack_root_logger=True, lambda_metrics_namespace="off")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]


def test_lines_are_json_with_the_task_and_the_message(hijacking, capsys):
    log = get_task_logger("proj.tasks")

    @hijacking.task(name="proj.send", bind=True)
    def send(self, address):
        log.info("sending")

    result = send.delay("ann@example.org")
    hijacking.deliver()
    by_message = {line["message"].partition("]")[0]: line for line in lines(capsys)}

    sending = by_message["sending"]
    assert sending["level"] == "INFO"
    assert sending["task_name"] == "proj.send"
    assert sending["task_id"] == result.id
    assert sending["retries"] == 0
    assert sending["receive_count"] == 1
    assert sending["message_age_seconds"] >= 0
    assert sending["function_request_id"]
    assert sending["message_id"]


def test_one_line_of_each_attempt_tells_its_end(hijacking, capsys):
    # Given: a task that is retried once and succeeds then, and calls another one in its body
    @hijacking.task(name="proj.inner")
    def inner():
        pass

    @hijacking.task(name="proj.send", bind=True)
    def send(self):
        inner.apply()
        if not self.request.retries:
            self.retry(exc=ValueError("451"), countdown=0)

    @hijacking.task(name="proj.fails", acks_on_failure_or_timeout=True)
    def fails():
        raise ValueError("no such mailbox")

    # When
    sent = send.delay()
    hijacking.deliver()
    hijacking.deliver()
    failed = fails.apply_async(root_id=sent.id, parent_id=sent.id)
    hijacking.deliver()

    # Then
    retried, succeeded, of_failed = (line for line in lines(capsys) if "end" in line)
    assert [retried[each] for each in ("end", "task_id", "task_name", "retries", "queue")] == [
        "retried", sent.id, "proj.send", 0, hijacking.settings.queue_url.rpartition("/")[2],
    ]  # fmt: skip
    assert "451" in retried["error"]
    assert retried["duration_ms"] > 0
    assert (succeeded["end"], succeeded["retries"]) == ("succeeded", 1)
    assert succeeded.keys().isdisjoint({"error", "root_id", "parent_id"})
    assert (of_failed["end"], of_failed["error"]) == ("failed", "ValueError('no such mailbox')")
    assert (of_failed["task_id"], of_failed["root_id"]) == (failed.id, sent.id)
    assert of_failed["parent_id"] == sent.id


def test_what_was_not_run_or_is_parked_tells_its_end_too(hijacking, capsys):
    # Given
    @hijacking.task(name="proj.send")
    def send():
        pass

    @hijacking.task(name="proj.rejects")
    def rejects():
        raise Reject("not ours", requeue=False)

    # When
    expired, rejected = send.apply_async(expires=-1), rejects.delay()
    hijacking.deliver(2)
    sent = send.delay()
    [message] = hijacking.receive()
    for _ in range(2):
        hijacking.hand_over([message])

    # Then: of each invocation the last line counts
    last = {
        (line["task_id"], line["function_request_id"]): line["end"]
        for line in lines(capsys)
        if "end" in line
    }
    assert [(task_id, end) for (task_id, _), end in last.items()] == [
        (expired.id, "revoked"), (rejected.id, "failed"),
        (sent.id, "succeeded"), (sent.id, "duplicate"),
    ]  # fmt: skip


def test_a_line_of_a_task_with_a_field_named_as_ours_is_left_as_it_is(hijacking, capsys):
    # Given
    own = {"end": "Friday", "queue": "of the bakery", "data": {"exc": ValueError("of our own")}}

    @hijacking.task(name="proj.report")
    def report():
        logging.getLogger("proj.tasks").info("The report", extra=own)

    # When
    report.delay()
    hijacking.deliver()

    # Then
    written = lines(capsys)
    [line] = [each for each in written if each["message"] == "The report"]
    assert (line["end"], line["queue"]) == ("Friday", "of the bakery")
    assert line.keys().isdisjoint({"duration_ms", "error"})
    assert [each["end"] for each in written if "end" in each] == ["Friday", "succeeded"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("sentry-trace", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"),
    ],
)
def test_lines_name_the_traces_of_the_message_under_way(hijacking, capsys, name, value):
    @hijacking.task(name="proj.send")
    def send():
        get_task_logger("proj.tasks").info("sending")

    root = "1-5759e988-bd862e3fe1be46a994272793"
    send.apply_async(headers={name: value, "X-Amzn-Trace-Id": f"Root={root};Sampled=1"})
    send.delay()
    hijacking.deliver(2)
    traced, untraced = (line for line in lines(capsys) if line["message"] == "sending")

    assert traced["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert traced["message_xray_trace_id"] == root
    assert untraced.keys().isdisjoint({"trace_id", "message_xray_trace_id"})


def test_received_and_succeeded_are_said_as_by_a_worker_without_the_arguments(hijacking, capsys):
    @hijacking.task(name="proj.send")
    def send(address):
        return "sent"

    result = send.delay("ann@example.org")
    hijacking.deliver()
    said = lines(capsys)
    messages = [line["message"] for line in said]
    assert f"Task proj.send[{result.id}] received" in messages
    assert any(m.startswith(f"Task proj.send[{result.id}] succeeded in ") for m in messages)
    assert "ann@example.org" not in json.dumps(said)


def test_the_signals_of_logging_are_sent_once(hijacking):
    sent = []

    def after_logger(logger, loglevel, **kwargs):
        sent.append(("logger", logger.name, loglevel))

    def after_task_logger(logger, **kwargs):
        sent.append(("task logger", logger.name))

    signals.after_setup_logger.connect(after_logger)
    signals.after_setup_task_logger.connect(after_task_logger)
    try:
        hijacking.task(name="proj.send")(print)
        for _ in range(2):
            hijacking.app.send_task("proj.send")
            hijacking.deliver()
    finally:
        signals.after_setup_logger.disconnect(after_logger)
        signals.after_setup_task_logger.disconnect(after_task_logger)
    assert sent == [("logger", "root", logging.INFO), ("task logger", "celery.task")]


def test_a_receiver_of_setup_logging_has_everything_in_its_own_hands(hijacking, root_logger):
    before = root_logger.handlers[:]
    called = []

    def mine(**kwargs):
        called.append(kwargs["loglevel"])

    signals.setup_logging.connect(mine)
    try:
        hijacking.handler  # noqa: B018 - making it is what is tested
    finally:
        signals.setup_logging.disconnect(mine)
    assert called == [logging.INFO]
    assert root_logger.handlers == before


def test_the_root_logger_is_left_alone_if_the_app_says_so(runtime, root_logger):
    before = root_logger.handlers[:]
    runtime.handler  # noqa: B018 - making it is what is tested
    assert root_logger.handlers == before


def test_the_level_comes_from_the_environment(hijacking, root_logger, monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_LOG_LEVEL", "error")
    hijacking.handler  # noqa: B018 - making it is what is tested
    assert root_logger.level == logging.ERROR


def test_the_handler_tells_of_a_misspelt_setting_once_and_in_the_log(
    make_runtime, capsys, monkeypatch
):
    runtime = make_runtime(worker_hijack_root_logger=True, lambda_queue_ulr="https://queue")
    logger = logging.getLogger("lambda_celery.conf")
    told, warn = [], logger.warning
    monkeypatch.setattr(logger, "warning", lambda *args: (told.append(args), warn(*args)))
    runtime.handler  # noqa: B018 - made here
    assert len(told) == 1
    assert [line for line in lines(capsys) if "lambda_queue_ulr" in line["message"]]


def test_a_persons_log_has_one_line_for_what_a_task_has_met(make_runtime, capsys):
    runtime = make_runtime(worker_hijack_root_logger=True, lambda_log_format="text")

    @runtime.task(name="proj.raises")
    def raises():
        raise ValueError("no such mailbox")

    @runtime.task(name="proj.retries", bind=True)
    def retries(self):
        self.retry(countdown=60)

    raised, retried = raises.delay(), retries.delay()
    runtime.deliver(2)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]

    (of_raised,) = (line for line in said if raised.id in line and "received" not in line)
    assert "raised, and comes back in" in of_raised
    (of_retried,) = (line for line in said if retried.id in line and "received" not in line)
    assert "retry: Retry in 60s" in of_retried
