"""The metrics and the summary of an invocation, as they leave the function: as lines of its log."""

from __future__ import annotations

import base64
import ctypes
import io
import json
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import jsonschema
import pytest
from aws_lambda_powertools import Metrics as PowertoolsMetrics
from celery.exceptions import Ignore, Reject

from lambda_celery.conf import Settings
from lambda_celery.direct_calls import InvocationType, call_event, record_of
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.alarms import alarms, dashboard
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.publishing.captured import Captured
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.metrics import MAXIMUM_TASKS, OTHER_TASKS, UNITS, Metrics
from tests.functional.runtime.conftest import Context

NOW = 1_800_000_000

#: The embedded metric format's own schema, from its specification:
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
SCHEMA = {
    "type": "object",
    "title": "Root Node",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "title": "Metadata",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer", "examples": [1565375354953]},
                "CloudWatchMetrics": {
                    "type": "array",
                    "title": "MetricDirective",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "title": "DimensionSet",
                                    "minItems": 0,
                                    "maxItems": 30,
                                    "items": {
                                        "type": "string",
                                        "title": "DimensionReference",
                                        "minLength": 1,
                                        "maxLength": 250,
                                    },
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "title": "MetricDefinition",
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": {
                                            "type": "string",
                                            "minLength": 1,
                                            "maxLength": 1024,
                                        },
                                        "Unit": {"enum": sorted({u.value for u in UNITS.values()})},
                                        "StorageResolution": {"enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}


class Told:
    """What the lines of some invocations say to CloudWatch."""

    def __init__(self, lines: list[str]) -> None:
        self.blobs = [json.loads(line) for line in lines if '"_aws"' in line]
        self.values: dict[tuple[str, ...], list[float]] = {}
        for line, blob in zip([x for x in lines if '"_aws"' in x], self.blobs, strict=True):
            assert len(line) < 1_000_000
            jsonschema.validate(blob, SCHEMA)
            [directive] = blob["_aws"]["CloudWatchMetrics"]
            if directive["Namespace"] == "Shop":
                continue  # an app's own
            for metric in directive["Metrics"]:
                values = blob[metric["Name"]]
                assert metric["Unit"] == UNITS[metric["Name"]].value
                assert isinstance(values, list)
                assert 1 <= len(values) <= 100
                for names in directive["Dimensions"]:
                    of = (metric["Name"], *(blob[name] for name in names))
                    self.values.setdefault(of, []).extend(values)

    def sums(self, *dimensions: str) -> Counter[str]:
        """Return the sum of each metric with exactly those *dimensions*, but for times."""
        return Counter(
            {
                name: int(sum(values))
                for (name, *of), values in self.values.items()
                if tuple(of) == dimensions and UNITS[name].value == "Count"
            }
        )


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Callable[[], Told]:
    """Return what has been told since the last call."""
    return lambda: Told(capfd.readouterr().out.splitlines())


def _queue(runtime: Any) -> str:
    return str(runtime.settings.queue_url.rpartition("/")[2])


def _hand_over_again(runtime: Any, message: dict[str, Any], receive_count: int) -> Any:
    message["Attributes"]["ApproximateReceiveCount"] = str(receive_count)
    return runtime.hand_over([message])


class TestEachOutcome:
    """A row of the table in docs/outcomes.md each."""

    def test_ran_to_the_end_and_comes_again(self, runtime, told):
        @runtime.task(name="proj.add")
        def add(x, y):
            return x + y

        add.delay(1, 2)
        [message] = runtime.receive()
        before = time.time()
        runtime.hand_over([message])

        first = told()
        queue = _queue(runtime)
        assert first.sums(queue, "proj.add") == {"MessagesReceived": 1, "TasksSucceeded": 1}
        assert first.sums(queue) == {
            "MessagesReceived": 1, "TasksSucceeded": 1, "BatchSize": 1, "ColdStarts": 1,
        }  # fmt: skip
        [duration] = first.values["TaskDuration", queue, "proj.add"]
        [latency] = first.values["QueueLatency", queue, "proj.add"]
        [age] = first.values["OldestMessageAge", queue]
        [asked] = first.values["IdempotencyDuration", queue]
        sent = int(message["Attributes"]["SentTimestamp"]) / 1000
        assert 0 < duration / 1000 <= time.time() - before
        assert 0 <= latency / 1000 <= time.time() - sent
        assert 0 <= age <= time.time() - sent
        assert 0 < asked / 1000 <= time.time() - before

        runtime.send_copy(message)
        runtime.deliver()

        again = told()
        assert again.sums(queue, "proj.add") == {"MessagesReceived": 1, "DuplicatesDropped": 1}
        assert ("TaskDuration", queue) not in again.values

    def test_retry_and_ignore(self, runtime, told):
        @runtime.task(name="proj.retries", bind=True, max_retries=1, default_retry_delay=0)
        def retries(self):
            if not self.request.retries:
                raise self.retry()

        @runtime.task(name="proj.ignores")
        def ignores():
            raise Ignore()

        retries.delay()
        ignores.delay()
        runtime.deliver(2)

        first = told()
        queue = _queue(runtime)
        assert first.sums(queue, "proj.retries") == {"MessagesReceived": 1, "TasksRetried": 1}
        assert first.sums(queue, "proj.ignores") == {"MessagesReceived": 1, "TasksIgnored": 1}

        runtime.deliver()
        assert told().sums(queue, "proj.retries") == {"MessagesReceived": 1, "TasksSucceeded": 1}

    def test_raised_and_parked(self, make_runtime, told):
        runtime = make_runtime(lambda_max_receive_count=2)

        @runtime.task(name="proj.fails")
        def fails():
            raise ValueError("451")

        fails.delay()
        [message] = runtime.receive()
        _hand_over_again(runtime, message, 1)

        queue = _queue(runtime)
        assert told().sums(queue, "proj.fails") == {
            "MessagesReceived": 1, "TasksRetried": 1, "MessagesReturned": 1,
        }  # fmt: skip

        _hand_over_again(runtime, message, 2)
        assert told().sums(queue, "proj.fails") == {
            "MessagesReceived": 1, "TasksFailed": 1, "MessagesParked": 1,
        }  # fmt: skip

    def test_an_acknowledged_failure_and_both_rejections(self, runtime, told):
        @runtime.task(name="proj.acknowledged", acks_on_failure_or_timeout=True)
        def acknowledged():
            raise ValueError("451")

        @runtime.task(name="proj.rejects")
        def rejects(requeue):
            raise Reject("no", requeue=requeue)

        acknowledged.delay()
        rejects.delay(True)
        rejects.delay(False)
        runtime.deliver(3)

        said = told()
        queue = _queue(runtime)
        assert said.sums(queue, "proj.acknowledged") == {"MessagesReceived": 1, "TasksFailed": 1}
        assert said.sums(queue, "proj.rejects") == {
            "MessagesReceived": 2,
            "TasksRetried": 1, "MessagesReturned": 1,
            "TasksFailed": 1, "MessagesParked": 1,
        }  # fmt: skip

    def test_its_eta_is_ahead(self, runtime, told):
        @runtime.task(name="proj.later")
        def later():
            raise AssertionError

        later.apply_async(eta=datetime.now(UTC) + timedelta(seconds=1))
        [message] = runtime.receive()
        # As it would be at the end of its first 900 seconds.
        ahead = runtime.envelope(message)
        ahead["headers"]["eta"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        message["Body"] = base64.b64encode(json.dumps(ahead).encode()).decode()
        runtime.hand_over([message])

        said = told()
        queue = _queue(runtime)
        assert said.sums(queue, "proj.later") == {"MessagesReceived": 1, "MessagesForwarded": 1}
        assert said.values["OldestMessageAge", queue] == [0]

    def test_not_run(self, runtime, told):
        @runtime.task(name="proj.later")
        def later():
            raise AssertionError

        @runtime.task(name="proj.revoked")
        def revoked():
            raise AssertionError

        later.apply_async(expires=datetime.now(UTC) - timedelta(seconds=1))
        runtime.app.control.revoke(revoked.delay().id)
        runtime.app.send_task("proj.absent")
        runtime.sqs.send_message(QueueUrl=runtime.settings.queue_url, MessageBody="no message")
        runtime.deliver(4)

        said = told()
        queue = _queue(runtime)
        assert said.sums(queue, "proj.later") == {"MessagesReceived": 1, "TasksExpired": 1}
        assert said.sums(queue, "proj.revoked") == {"MessagesReceived": 1, "TasksRevoked": 1}
        # What cannot be read has no task's name; and of what is not registered here none is taken.
        assert said.sums(queue) == {
            "MessagesReceived": 4, "TasksExpired": 1, "TasksRevoked": 1, "MessagesReturned": 2,
            "BatchSize": 4, "ColdStarts": 1,
        }  # fmt: skip
        assert {name for _, *of in said.values for name in of[1:]} == {"proj.later", "proj.revoked"}


class TestWays:
    @pytest.mark.parametrize(
        "settings",
        [
            {"lambda_concurrency": 1},
            {"lambda_concurrency": 8},
            {"lambda_concurrency": 2, "lambda_processes": 2},
        ],
        ids=["one", "threads", "processes"],
    )
    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_each_counts_once(self, make_runtime, told, settings, is_async):
        """Whoever runs it: threads, the event loop, or children."""
        runtime = make_runtime(lambda_retry_backoff_seconds=600.0, **settings)

        if is_async:

            @runtime.task(name="proj.some")
            async def some(n):
                if n == 3:
                    raise ValueError("451")
        else:

            @runtime.task(name="proj.some")
            def some(n):
                if n == 3:
                    raise ValueError("451")

        for n in range(10):
            some.delay(n)
        messages = runtime.receive(10)
        runtime.send_copy(messages[0])
        runtime.hand_over(messages)
        runtime.deliver()

        said = told()
        queue = _queue(runtime)
        assert said.sums(queue, "proj.some") == {
            "MessagesReceived": 11, "TasksSucceeded": 9, "TasksRetried": 1, "MessagesReturned": 1,
            "DuplicatesDropped": 1,
        }  # fmt: skip
        assert said.sums(queue)["BatchSize"] == 11
        assert said.sums(queue)["ColdStarts"] == 1
        assert len(said.values["TaskDuration", queue, "proj.some"]) == 10
        assert len(said.values["QueueLatency", queue]) == 10
        assert len(said.values["IdempotencyDuration", queue]) == 11
        assert len(said.blobs) == 4  # two invocations, each the queue's and the task's

    def test_a_run_that_ends_with_its_process_is_one(self, make_runtime, told):
        runtime = make_runtime(lambda_processes=1, lambda_time_reserve_seconds=2)

        @runtime.task(name="proj.hang", time_limit=0.2, max_retries=0)
        def hang():
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            ctypes.PyDLL(None).sleep(60)  # it keeps the interpreter's lock

        hang.delay()
        runtime.deliver()

        said = told()
        queue = _queue(runtime)
        assert said.sums(queue, "proj.hang") == {
            "MessagesReceived": 1, "TasksFailed": 1, "MessagesParked": 1,
        }  # fmt: skip
        assert said.values["TaskDuration", queue] == [200]
        assert len(said.values["QueueLatency", queue]) == 1

    def test_more_than_a_line_takes(self, runtime, told):
        @runtime.task(name="proj.many")
        def many(n):
            pass

        many.delay(0)
        [message] = runtime.receive()
        runtime.invoke([{**message, "MessageId": f"copy-{n}"} for n in range(250)])

        said = told()
        queue = _queue(runtime)
        assert said.sums(queue)["MessagesReceived"] == 250
        assert len(said.values["IdempotencyDuration", queue, "proj.many"]) == 250
        assert len(said.blobs) == 4  # the queue's, and three of the task

    def test_tasks_with_metrics_of_their_own_are_bounded(self, runtime, told):
        number = MAXIMUM_TASKS + 2
        for n in range(number):

            @runtime.task(name=f"proj.task{n}")
            def task():
                pass

            task.delay()
        runtime.invoke(runtime.receive(number, wait_seconds=60))

        said = told()
        queue = _queue(runtime)
        assert said.sums(queue)["TasksSucceeded"] == number
        assert said.sums(queue, OTHER_TASKS) == {"MessagesReceived": 2, "TasksSucceeded": 2}
        named = {of[2] for of in said.values if len(of) == 3}
        assert len(named) == MAXIMUM_TASKS + 1

    def test_a_message_that_is_received_often_has_its_age(self, runtime, told):
        """CloudWatch's own metric leaves it out."""

        @runtime.task(name="proj.fails")
        def fails():
            raise ValueError("451")

        fails.delay()
        [message] = runtime.receive()
        message["Attributes"]["SentTimestamp"] = str(int((time.time() - 5000) * 1000))
        _hand_over_again(runtime, message, 3)

        [age] = told().values["OldestMessageAge", _queue(runtime)]
        assert age >= 5000

    @pytest.mark.parametrize("off", ["", "off", False])
    def test_they_can_be_switched_off(self, make_runtime, told, off):
        runtime = make_runtime(lambda_metrics_namespace=off)

        @runtime.task
        def add():
            pass

        add.delay()
        runtime.deliver()
        assert told().blobs == []

    def test_their_namespace_and_an_app_s_own_metrics(self, make_runtime, told):
        runtime = make_runtime(lambda_metrics_namespace="Shop/Tasks")
        own = PowertoolsMetrics(namespace="Shop", service="mail")

        @runtime.task(name="proj.add")
        def add():
            own.add_metric(name="Mails", unit="Count", value=1)

        add.delay()
        runtime.deliver()
        own.flush_metrics()

        ours, of_task, theirs = told().blobs
        assert [each["_aws"]["CloudWatchMetrics"][0]["Namespace"] for each in (ours, theirs)] == [
            "Shop/Tasks", "Shop",
        ]  # fmt: skip
        assert "service" not in of_task
        assert theirs["Mails"] == [1]
        assert not UNITS.keys() & theirs.keys()


def test_a_direct_call_is_of_no_queue(runtime, told):
    """So no alarm on a queue goes off for a failure that the caller is told of."""

    @runtime.task(name="proj.fail")
    def fail():
        raise ConnectionError

    task_id, outgoing = Captured().message_of(fail.s())
    record = record_of(task_id, outgoing.message)
    call = call_event(record, InvocationType.REQUEST_RESPONSE, outgoing.queue_url)
    runtime.handler(call, Context(time.time() + 60))

    of_the_call = told()
    assert of_the_call.sums("unknown", "proj.fail") == {"MessagesReceived": 1, "TasksFailed": 1}
    assert of_the_call.sums(_queue(runtime)) == {}


def test_what_the_infrastructure_names_is_written(make_runtime, told):
    """By its alarms and its dashboard: each with the queue alone as its dimension."""
    deployment = Deployment(app="proj.celery:app", name="shop")
    figures = compute(deployment)
    [queue] = figures.queues.values()
    named = {
        (each.metric, *each.dimension)
        for each in alarms(deployment, figures)
        if each.namespace == Settings.metrics_namespace
    } | {
        tuple(of)
        for widget in dashboard(deployment, figures)["widgets"]
        for namespace, *of in widget["properties"]["metrics"]
        if namespace == Settings.metrics_namespace
    }
    assert {name for name, *_ in named} > {"OldestMessageAge", "TasksFailed", "TaskDuration"}
    assert {tuple(of) for _, *of in named} == {("QueueName", queue.name)}
    runtime = make_runtime(lambda_max_receive_count=2)

    @runtime.task(name="proj.some")
    def some(fails):
        if fails:
            raise ValueError("451")

    some.delay(True)
    [message] = runtime.receive()
    _hand_over_again(runtime, message, 1)
    _hand_over_again(runtime, message, 2)
    some.delay(False)
    [message] = runtime.receive()
    runtime.hand_over([message])
    runtime.send_copy(message)
    runtime.deliver()

    said = told()
    namespaces = {each["_aws"]["CloudWatchMetrics"][0]["Namespace"] for each in said.blobs}
    assert namespaces == {Settings.metrics_namespace}
    written = {name for name, *of in said.values if of == [_queue(runtime)]}
    assert {name for name, *_ in named} <= written


class TestWhatCloudWatchTakes:
    """It drops a line as a whole that has what it does not take."""

    def _written(self, told: Any, *attributes: dict[str, str], task: str = "proj.some") -> Told:
        metrics = Metrics("LambdaCelery", sys.stdout)
        deliveries = []
        for each in attributes:
            delivery = Delivery.from_record(
                {
                    "messageId": "1",
                    "eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:mail",
                    "attributes": each,
                }
            )
            delivery.note.task, delivery.note.began_at = task, NOW + 1
            deliveries.append(delivery)
        metrics.write(deliveries, NOW)
        return cast("Told", told())

    @pytest.mark.parametrize(
        ("name", "written"),
        [
            ("proj.prüfe", r"proj.pr\xfcfe"),
            ("proj.send\n\x00", r"proj.send\x0a\x00"),
            ('proj."send"{}', 'proj."send"{}'),
            ("p" * 5000, "p" * 1024),
            (" ", "(no name)"),
        ],
    )
    def test_of_a_task_s_name(self, told, name, written):
        said = self._written(told, {"SentTimestamp": str(NOW * 1000)}, task=name)
        assert said.sums("mail", written) == {"MessagesReceived": 1}

    def test_of_times(self, told):
        ahead, absent, no_number = str((NOW + 60) * 1000), {}, {"SentTimestamp": "-1"}
        said = self._written(told, {"SentTimestamp": ahead}, absent, no_number)
        assert said.values["OldestMessageAge", "mail"] == [0]
        assert said.values["QueueLatency", "mail"] == [0]
        assert said.sums("mail", "proj.some") == {"MessagesReceived": 3}

    def test_whatever_a_task_makes_of_the_standard_output(self, runtime, told, monkeypatch):
        @runtime.task(name="proj.some")
        def some():
            monkeypatch.setattr(sys, "stdout", io.StringIO())

        some.delay()
        runtime.deliver()
        assert told().sums(_queue(runtime), "proj.some")["TasksSucceeded"] == 1


class TestSummary:
    def test_says_how_many_ran_and_why_some_came_back(self, runtime, caplog):
        @runtime.task(name="proj.some")
        def some(fails):
            if fails:
                raise ValueError("451")

        for fails in (False, False, True):
            some.delay(fails)
        messages = runtime.receive(3)
        with caplog.at_level(logging.INFO, logger="lambda_runtime.summary"):
            runtime.hand_over(messages)

        [line] = [each for each in caplog.records if each.name == "lambda_runtime.summary"]
        assert line.getMessage().startswith(
            "Batch of 3: 3 ran, 2 succeeded, 1 retried, 1 came back (failed: 1). "
        )
        assert (line.received, line.ran, line.succeeded, line.retried) == (3, 3, 2, 1)
        assert line.returned_for == {"failed": 1}
        assert 0 < line.seconds_left <= 60

    def test_comes_when_the_whole_batch_is_misconfigured(self, make_runtime, caplog, told):
        runtime = make_runtime(lambda_idempotency_table="there-is-none")

        @runtime.task(name="proj.add")
        def add():
            pass

        add.delay()
        with (
            caplog.at_level(logging.INFO, logger="lambda_runtime.summary"),
            pytest.raises(ConfigurationError),
        ):
            runtime.deliver()

        [line] = [each for each in caplog.records if each.name == "lambda_runtime.summary"]
        assert "0 ran, 1 came back (AWS could not be asked before the run: 1)" in line.getMessage()
        assert told().sums(_queue(runtime))["MessagesReturned"] == 1
