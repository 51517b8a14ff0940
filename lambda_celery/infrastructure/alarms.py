"""When somebody is told, and what the dashboard shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lambda_celery.conf import ENV_PREFIX, Settings
from lambda_celery.infrastructure.computed import Figures
from lambda_celery.infrastructure.inputs import Deployment

#: Where each alarm has a page.
RUN_BOOK = "Run book: docs/operations/alarms"
_SECONDS = 60
#: The function's own metrics that the dashboard shows of each queue.
_FATES = (
    "TasksSucceeded", "TasksFailed", "TasksRetried", "MessagesReturned", "MessagesParked",
    "DuplicatesDropped",
)  # fmt: skip
_TIMES = ("TaskDuration", "QueueLatency", "IdempotencyDuration")


@dataclass(frozen=True)
class Alarm:
    """An alarm on a metric that is more than *threshold* in each of *minutes*.

    :ivar of: what its logical id begins with: a queue's or a function's name, or a table's word.
    :ivar what: what its logical id ends with.
    :ivar slug: the end of its name on AWS.
    :ivar page: what its page of the run book is called, if not by *slug*.
    """

    of: str
    what: str
    slug: str
    description: str
    namespace: str
    metric: str
    dimension: tuple[str, str]
    statistic: str
    minutes: int
    threshold: int
    page: str = ""

    @property
    def told(self) -> str:
        """Return the description on AWS: it names the page for whoever is woken by it."""
        return f"{self.description} {RUN_BOOK}/{self.page or self.slug}.md"


def metrics_namespace(deployment: Deployment) -> str:
    """Return the namespace of the function's own metrics; empty where they are switched off."""
    given = deployment.environment.get(f"{ENV_PREFIX}METRICS_NAMESPACE", "").strip()
    return "" if given.lower() == "off" else given or Settings.metrics_namespace


def alarms(deployment: Deployment, figures: Figures) -> Iterator[Alarm]:
    """Yield the alarms of *deployment*."""
    namespace = metrics_namespace(deployment)
    for queue in figures.queues.values():
        yield Alarm(
            queue.celery_name, "DeadLetterAlarm", "dead-letters",
            "A message was parked. Its attributes say why; redrive it when that is mended.",
            "AWS/SQS", "ApproximateNumberOfMessagesVisible",
            ("QueueName", queue.dead_letter_queue_name), "Maximum", 1, 0,
        )  # fmt: skip
        yield Alarm(
            queue.celery_name, "OldestMessageAlarm", "oldest-message",
            "Tasks wait for too long. The function fails, or maximum_concurrency is too low.",
            "AWS/SQS", "ApproximateAgeOfOldestMessage", ("QueueName", queue.name), "Maximum", 5,
            deployment.oldest_message_age_seconds,
        )  # fmt: skip
        if not namespace:
            continue
        yield Alarm(
            queue.celery_name, "OldestReceivedAlarm", "oldest-received",
            "A task is run, or comes back, long after it was due. SQS's own metric leaves out what "
            "was received three times or more.",
            namespace, "OldestMessageAge", ("QueueName", queue.name), "Maximum", 1,
            deployment.oldest_message_age_seconds,
        )  # fmt: skip
        yield Alarm(
            queue.celery_name, "FailedTasksAlarm", "failed-tasks",
            "A task has failed for good, whether its message was parked or deleted.",
            namespace, "TasksFailed", ("QueueName", queue.name), "Sum", 1, 0,
        )  # fmt: skip
    for function in figures.functions.values():
        dimension = ("FunctionName", function.name)
        yield Alarm(
            function.key, "ErrorsAlarm", "errors",
            "Invocations fail as a whole. Their messages come back and are parked in the end.",
            "AWS/Lambda", "Errors", dimension, "Sum", 1, 0,
        )  # fmt: skip
        yield Alarm(
            function.key, "ThrottlesAlarm", "throttles",
            "Lambda refuses invocations, and each of a mapping counts as a receive. Raise the "
            "account's concurrency, or lower maximum_concurrency.",
            "AWS/Lambda", "Throttles", dimension, "Sum", 5, 0,
        )  # fmt: skip
        yield Alarm(
            function.key, "DurationAlarm", "duration",
            "An invocation took nearly all of its time-out. Raise timeout, or lower batch_size.",
            "AWS/Lambda", "Duration", dimension, "Maximum", 1,
            function.duration_alarm_milliseconds,
        )  # fmt: skip
    for table in ("idempotency", *(["results"] if deployment.results else [])):
        for what in ("Read", "Write"):
            yield Alarm(
                table, f"{what}ThrottlesAlarm", f"throttled-{what.lower()}s",
                f"DynamoDB refuses {what.lower()}s of the table. Set warm_throughput before the "
                "next burst.",
                "AWS/DynamoDB", f"{what}ThrottleEvents",
                ("TableName", f"{deployment.name}-{table}"), "Sum", 5, 0, "throttled-table",
            )  # fmt: skip


def dashboard(deployment: Deployment, figures: Figures) -> dict[str, Any]:
    """Return the dashboard's body: two rows for each queue, and one for each function."""
    namespace = metrics_namespace(deployment)
    rows: list[tuple[tuple[str, str, list[list[str]]], ...]] = []
    for queue in figures.queues.values():
        count, age = "ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"
        names = (queue.name, queue.dead_letter_queue_name)
        rows.append(
            (
                (
                    f"{queue.celery_name}: messages",
                    "Maximum",
                    [["AWS/SQS", count, "QueueName", name] for name in names],
                ),
                (
                    f"{queue.celery_name}: age of the oldest message",
                    "Maximum",
                    [["AWS/SQS", age, "QueueName", queue.name]],
                ),
            )
        )
        if not namespace:
            continue
        of_queue = ["QueueName", queue.name]
        rows.append(
            (
                (
                    f"{queue.celery_name}: what becomes of its tasks",
                    "Sum",
                    [[namespace, metric, *of_queue] for metric in _FATES],
                ),
                (
                    f"{queue.celery_name}: nine of ten take at most",
                    "p90",
                    [[namespace, metric, *of_queue] for metric in _TIMES],
                ),
            )
        )
    for function in figures.functions.values():
        by = ["FunctionName", function.name]
        metrics = ("Invocations", "Errors", "Throttles")
        rows.append(
            (
                (
                    f"{function.name}: invocations",
                    "Sum",
                    [["AWS/Lambda", metric, *by] for metric in metrics],
                ),
                (f"{function.name}: duration", "Maximum", [["AWS/Lambda", "Duration", *by]]),
            )
        )
    return {
        "widgets": [
            {
                "type": "metric",
                "x": 12 * column,
                "y": 6 * row,
                "width": 12,
                "height": 6,
                "properties": {
                    "title": title,
                    "region": "${AWS::Region}",
                    "view": "timeSeries",
                    "stat": statistic,
                    "period": _SECONDS,
                    "metrics": metrics,
                },
            }
            for row, widgets in enumerate(rows)
            for column, (title, statistic, metrics) in enumerate(widgets)
        ]
    }
