"""``celery -A proj lambda status``: its figures of queues, mappings and functions, and refusals."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from lambda_celery.status import gathering
from lambda_celery.status.gathering import Gatherer


def test_it_counts_what_is_on_the_queues_and_names_the_mapping(runtime, deployment):
    # Given
    runtime.stack.send("one", "two", "three")
    runtime.stack.send("later", DelaySeconds=600)
    runtime.receive(1)
    runtime.sqs.send_message(QueueUrl=runtime.settings.dead_letter_queue_url, MessageBody="dead")

    # When
    figures = deployment.figures()

    # Then
    [queue] = figures["queues"]
    assert queue["name"] == queue["sqs_name"] == deployment.queue_name
    counts = ("waiting", "in_flight", "delayed", "parked")
    assert [queue[each] for each in counts] == [2, 1, 1, 1]
    assert queue["mappings"] == [
        {
            "uuid": deployment.uuid, "state": "Disabled", "function": deployment.name,
            "maximum_concurrency": 10,
        }
    ]  # fmt: skip
    assert queue["oldest_seconds"] is None
    assert figures["left_out"] == ["CloudWatch has no figures of the last hour."]


def test_cloudwatch_tells_the_last_hour_the_trend_and_what_it_cost(runtime, deployment):
    # Given: a queue that shrinks by 100 messages a minute, and its function
    runtime.stack.send("one", "two")
    sqs, function = ("AWS/SQS", "QueueName"), ("AWS/Lambda", "FunctionName")
    deployment.measure(*sqs, "ApproximateNumberOfMessagesVisible", 300, 200, 100)
    deployment.measure(*sqs, "ApproximateAgeOfOldestMessage", 5, 30)
    deployment.measure(*function, "Invocations", 7, 5)
    deployment.measure(*function, "Errors", 1, 0)
    deployment.measure(*function, "Duration", 1000, 3000)
    deployment.measure(*function, "ConcurrentExecutions", 9, 4)

    # When
    figures = deployment.figures()

    # Then
    [queue] = figures["queues"]
    assert queue["oldest_seconds"] == 30
    assert queue["trend_per_minute"] < -50
    assert queue["drain_seconds"] == pytest.approx(2 / -queue["trend_per_minute"] * 60)
    [found] = figures["functions"]
    assert (found["name"], found["memory_mb"]) == (deployment.name, 1024)
    # The minute may be another one by now.
    assert [n for n in found["invocations"] if n] == [7, 5]
    assert sum(found["errors"]) == 1
    assert len(found["invocations"]) == 60
    assert found["throttles"] == []
    assert (found["duration_ms"], found["duration_maximum_ms"]) == (3000, 3000)
    assert found["concurrent"] == 4
    assert figures["left_out"] == []


@pytest.fixture
def namespace(runtime) -> str:
    """The name space of the runtime's metrics, for this test alone."""
    name = f"of-{runtime.settings.queue_url.rpartition('/')[2]}"
    runtime.app.conf.lambda_metrics_namespace = name
    return name


def test_the_functions_own_metrics_tell_of_each_task(runtime, deployment, namespace):
    # Given
    for task, name, *values in (
        ("proj.send", "MessagesReceived", 9, 7), ("proj.send", "TasksSucceeded", 7, 5),
        ("proj.send", "TasksRetried", 2, 2), ("proj.send", "TaskDuration", 100, 300),
        ("proj.bill", "MessagesReceived", 1), ("proj.bill", "TasksFailed", 1),
    ):  # fmt: skip
        deployment.measure(namespace, "QueueName", name, *values, task=task)

    # When
    figures = deployment.figures()

    # Then
    send, bill = sorted(figures["tasks"], key=lambda each: each["name"], reverse=True)
    assert (send["name"], send["queue"]) == ("proj.send", deployment.queue_name)
    assert [n for n in send["succeeded"] if n] == [7, 5]
    assert [sum(send[each]) for each in ("retried", "failed")] == [4, 0]
    assert send["duration_ms"] == 300
    assert (sum(bill["succeeded"]), sum(bill["failed"])) == (0, 1)
    assert len(bill["failed"]) == len(figures["queues"][0]["waiting_by_minute"] or [0] * 60) == 60
    assert figures["duration_bounds_ms"][0] == 10
    [deployed] = figures["deployments"]
    assert (deployed["function"], deployed["version"]) == (deployment.name, "$LATEST")
    assert figures["started"] < deployed["time"] <= figures["time"]


def test_of_many_tasks_the_busiest_are_read(runtime, deployment, namespace, monkeypatch):
    monkeypatch.setattr("lambda_celery.status.tasks.MAXIMUM_TASKS", 2)
    for number, task in enumerate(("proj.c", "proj.a", "proj.b")):
        deployment.measure(namespace, "QueueName", "MessagesReceived", number + 1, task=task)

    figures = deployment.figures()

    assert {each["name"] for each in figures["tasks"]} == {"proj.a", "proj.b"}
    assert "1 more tasks have run: the 2 with the most messages are shown." in figures["left_out"]


def test_which_tasks_are_the_busiest_is_asked_again_after_ten_minutes(
    runtime, deployment, namespace, monkeypatch
):
    # Given
    now = time.time()
    monkeypatch.setattr(gathering, "time", SimpleNamespace(time=lambda: now))
    monkeypatch.setattr("lambda_celery.status.tasks.MAXIMUM_TASKS", 1)
    for number, task in ((1, "proj.a"), (2, "proj.b")):
        deployment.measure(namespace, "QueueName", "MessagesReceived", number, task=task)
    gatherer = Gatherer(runtime.app)
    shown = [gatherer.gather().tasks]

    # When
    deployment.measure(namespace, "QueueName", "MessagesReceived", 9, ago=2, task="proj.a")
    for minutes in (2, 11):
        now += minutes * 60
        shown.append(gatherer.gather().tasks)

    # Then
    assert [each.name for [each] in shown] == ["proj.b", "proj.b", "proj.a"]


def test_without_metrics_there_are_no_figures_by_task(runtime, deployment):
    runtime.app.conf.lambda_metrics_namespace = "off"

    figures = deployment.figures()

    assert figures["tasks"] == []
    assert "There are no figures by task: lambda_metrics_namespace" in figures["left_out"][0]


def test_what_lambda_cost_is_that_since_midnight(deployment):
    function = ("AWS/Lambda", "FunctionName")
    deployment.measure(*function, "Invocations", 1_000_000, ago=0)
    deployment.measure(*function, "Duration", 3_600_000, ago=0)
    deployment.measure(*function, "Invocations", 9_000_000, ago=24 * 60)

    [found] = deployment.figures()["functions"]

    assert found["usd_today"] == pytest.approx(0.2 + 3600 * 1.33334e-05)


def test_once_it_prints_one_screen(runtime, deployment):
    runtime.stack.send("one")

    done = deployment.command("status", "--once")

    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[2].split() == [
        "Queue", "Waiting", "In", "flight", "Delayed", "Oldest", "Empty", "in", "Parked", "Last",
        "hour", "Mapping",
    ]  # fmt: skip
    assert "paused, 10 at once" in lines[3]
    assert lines[-1] == "CloudWatch has no figures of the last hour."


def test_a_task_may_have_a_name_that_means_something_elsewhere(deployment, namespace):
    # Rich would read the one as markup, and the other as an emoji.
    name = "proj.[/bold] :smile:"
    deployment.measure(namespace, "QueueName", "MessagesReceived", 1, task=name)

    done = deployment.command("status", "--once")

    assert done.exit_code == 0, done.output
    assert name in done.output


@pytest.mark.parametrize(
    ("service", "operation", "code", "sentence"),
    [
        ("cloudwatch", "GetMetricData", "AccessDenied", "allow cloudwatch:GetMetricData there"),
        ("cloudwatch", "ListMetrics", "AccessDenied", "allow cloudwatch:ListMetrics there"),
        ("cloudwatch", "GetMetricData", "Throttling", "GetMetricData on the metrics of CloudWatch"),
        ("lambda", "ListEventSourceMappings", "AccessDeniedException",
         "allow lambda:ListEventSourceMappings there"),
        ("lambda", "GetFunctionConfiguration", "AccessDeniedException",
         "allow lambda:GetFunctionConfiguration there"),
    ],
)  # fmt: skip
def test_what_is_refused_is_left_out_in_one_sentence_and_the_rest_is_shown(
    runtime, deployment, faults, service, operation, code, sentence
):
    runtime.stack.send("one")
    deployment.measure("AWS/SQS", "QueueName", "ApproximateNumberOfMessagesVisible", 1)
    faults.fail(runtime.settings, service, operation, code, status=403)

    figures = deployment.figures()

    [told] = figures["left_out"]
    assert sentence in told
    assert figures["queues"][0]["waiting"] == 1
    if operation != "ListEventSourceMappings":
        assert [each["name"] for each in figures["functions"]] == [deployment.name]


def test_where_nothing_may_be_read_it_ends_with_the_sentence(runtime, deployment, faults):
    faults.fail(runtime.settings, "sqs", "GetQueueAttributes", "AccessDenied", status=403)

    done = deployment.command("status", "--once")

    assert done.exit_code == 1
    assert "allow sqs:GetQueueAttributes there" in done.output
    assert len(done.output.splitlines()) == 1


def test_a_queue_that_is_not_there_is_told_beside_those_that_are(runtime, deployment):
    url = runtime.settings.queue_url
    runtime.app.conf.lambda_queues = {"gone": f"{url}-gone"}

    figures = deployment.figures()

    assert [each["name"] for each in figures["queues"]] == ["gone", deployment.queue_name]
    assert figures["queues"][0]["waiting"] is None
    assert f"There is no queue {deployment.queue_name}-gone in this" in figures["left_out"][0]


def test_cloudwatch_is_asked_once_a_minute_at_most(runtime, deployment, faults, monkeypatch):
    now = datetime.now(UTC).timestamp() // 60 * 60
    monkeypatch.setattr("lambda_celery.status.gathering.time.time", lambda: now)
    allow = faults.fail(runtime.settings, "cloudwatch", "GetMetricData", "AccessDenied", status=403)
    gatherer = Gatherer(runtime.app)

    # When: it is allowed in the same minute
    first = gatherer.gather()
    allow()

    # Then
    assert gatherer.gather().left_out == first.left_out != ()
    now += 60
    assert "refused" not in str(gatherer.gather().left_out)
