"""The alarms of the infrastructure: they must be there, be on, and tell somebody in time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lambda_celery.check.deployed.deployment import Deployed, Queue
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade
from lambda_celery.conf import ENV_PREFIX
from lambda_celery.infrastructure.alarms import Alarm
from lambda_celery.infrastructure.alarms import alarms as alarms_of_the_definition
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment

_DEAD_LETTERS = "DeadLetterAlarm"
_AGE = "ApproximateAgeOfOldestMessage"
#: Of a figure that is never negative, each of these is above 0 if one value is.
_ABOVE_ZERO = {"Average", "Maximum", "Sum"}
_NAMESPACE = f"{ENV_PREFIX}METRICS_NAMESPACE"
_NOT_BREACHING = "notBreaching"


@dataclass(frozen=True)
class Watched:
    """Something that an alarm must watch.

    :ivar name: the dimension's value on AWS.
    :ivar alarm: as the infrastructure makes it, by the project's stanza or without one.
    :ivar is_of_stanza: whether its figures are those of the stanza.
    """

    thing: Thing
    name: str
    alarm: Alarm
    is_of_stanza: bool


@deployed_rule("deployed-alarms", "Something that nobody is told of")
def alarms(deployed: Deployed) -> Iterator[Difference]:
    """An alarm that the infrastructure makes is not there, is switched off, or tells nobody.

    Alarms are looked for by their metric, whatever their names: the age of the queue's oldest
    message, messages on the dead-letter queue, errors, throttles and duration of the function,
    throttled reads and writes of the table, and two of the function's own metrics, unless its
    variables switch those off. An alarm on an expression of several metrics is not found by its
    metric.

    Where pyproject.toml has the deployment, an alarm must go off no later than its own does: at
    the same figure or a lower one, for as long or shorter, by the same statistic; and without
    data it must be as silent. Without that, an alarm on the dead-letter queue must go off at the
    first message, and every alarm at high figures, by a statistic that shows them.
    """
    for watched in _watched(deployed):
        found = _alarms_of(deployed, watched)
        if found is None:
            continue
        told = [each for each in found if each.get("ActionsEnabled") and each.get("AlarmActions")]
        metric = watched.alarm.metric
        if not found:
            yield Difference(
                Grade.AMBER,
                watched.thing,
                f"No alarm watches {metric}. It would say: {watched.alarm.description}",
                Wrong.AWS,
                "add the alarm, by deploying the infrastructure anew.",
            )
        elif not any(alarm.get("ActionsEnabled") for alarm in found):
            yield Difference(
                Grade.AMBER,
                watched.thing,
                f"The actions of the alarm {found[0]['AlarmName']}, on {metric}, are switched off.",
                Wrong.AWS,
                "set ActionsEnabled of the alarm to true.",
            )
        elif not told:
            yield Difference(
                Grade.AMBER,
                watched.thing,
                f"The alarm {found[0]['AlarmName']}, on {metric}, has no action: nobody is told.",
                Wrong.AWS,
                "give it an SNS topic as AlarmActions, by alarm_email or alarm_topic_arn.",
            )
        elif all(next(_faults(alarm, watched), None) for alarm in told):
            for fault in _faults(told[0], watched):
                yield Difference(
                    Grade.AMBER,
                    watched.thing,
                    f"The alarm {told[0]['AlarmName']}, on {metric}, {fault}",
                    Wrong.AWS,
                    _remedy(watched),
                )


def _faults(alarm: Mapping[str, Any], watched: Watched) -> Iterator[str]:
    """Yield what makes *alarm* say less than it must, to follow its name."""
    wanted = watched.alarm
    by = "By pyproject.toml" if watched.is_of_stanza else "As the infrastructure makes it,"
    comparison = alarm.get("ComparisonOperator")
    first = _first_figure(alarm)
    if first is None:
        yield f"compares by {comparison}. {by} it must compare by GreaterThanThreshold."
    elif first < 1:
        yield f"goes off at {first:,}, which is always. {by} it must at {wanted.threshold + 1:,}."
    elif first > wanted.threshold + 1 and (watched.is_of_stanza or wanted.what == _DEAD_LETTERS):
        yield f"goes off at {first:,} only. {by} it must at {wanted.threshold + 1:,}."
    statistic = alarm.get("Statistic") or alarm.get("ExtendedStatistic")
    if not _shows_as_much(statistic, watched):
        yield f"is on the statistic {statistic}. {by} it must be {wanted.statistic}."
    if not watched.is_of_stanza:
        return
    periods = alarm.get("DatapointsToAlarm") or alarm.get("EvaluationPeriods") or 1
    seconds, maximum = int(periods * alarm.get("Period", 60)), 60 * wanted.minutes
    if seconds > maximum:
        yield f"goes off after {seconds:,} s. {by} it must after {maximum:,} s."
    missing = alarm.get("TreatMissingData") or "missing"
    if missing != _NOT_BREACHING:
        yield f"takes data that are missing as {missing}. {by} it must as {_NOT_BREACHING}."


def _first_figure(alarm: Mapping[str, Any]) -> int | None:
    """Return the lowest whole figure at which *alarm* goes off; ``None``: at no high one."""
    threshold = float(alarm.get("Threshold") or 0)
    match alarm.get("ComparisonOperator"):
        case "GreaterThanThreshold":
            return math.floor(threshold) + 1
        case "GreaterThanOrEqualToThreshold":
            return math.ceil(threshold)
    return None


def _shows_as_much(statistic: str | None, watched: Watched) -> bool:
    if statistic == watched.alarm.statistic:
        return True
    if watched.alarm.threshold == 0:
        return statistic in _ABOVE_ZERO
    # Whoever has no stanza may look at a percentile of the durations.
    return not watched.is_of_stanza and statistic not in {"Minimum", "SampleCount"}


def _remedy(watched: Watched) -> str:
    if not watched.is_of_stanza:
        return "change the alarm, or deploy that of the infrastructure."
    if watched.alarm.metric == _AGE:
        return (
            "deploy the infrastructure anew. If the alarm's figure is the right one, set "
            "oldest_message_age_seconds to it first."
        )
    return "deploy the infrastructure anew."


def _watched(deployed: Deployed) -> Iterator[Watched]:
    """Yield what the infrastructure has an alarm for."""
    model = Deployment(
        app="app",
        name="app",
        results=deployed.results_table is not None,
        environment=_metrics_namespace(deployed),
    )
    figures = compute(model)
    [queue], [function] = figures.queues.values(), figures.functions.values()
    # What is there, and how the stanza calls it, if that has it.
    there = {
        ("QueueName", queue.name): [
            (each.thing, each.name, _celery_name(each)) for each in deployed.queues()
        ],
        ("QueueName", queue.dead_letter_queue_name): [
            (dead_letters.thing, dead_letters.name, _celery_name(each))
            for each in deployed.queues()
            if (dead_letters := deployed.dead_letter_queue(each)) is not None
        ],
        ("FunctionName", function.name): [
            (each.thing, name, each.figures.key if each.figures else None)
            for name, each in deployed.functions_by_name().items()
        ],
        ("TableName", f"{model.name}-idempotency"): _table(
            deployed.idempotency_table_thing(), "idempotency"
        ),
        ("TableName", f"{model.name}-results"): _table(deployed.results_table_thing(), "results"),
    }
    of_stanza: dict[tuple[str | None, str], Alarm] = {}
    if deployed.deployment is not None and deployed.figures is not None:
        of_stanza = {
            (each.of, each.what): each
            for each in alarms_of_the_definition(deployed.deployment, deployed.figures)
        }
    for alarm in alarms_of_the_definition(model, figures):
        for thing, name, of in dict.fromkeys(there[alarm.dimension]):
            own = of_stanza.get((of, alarm.what))
            yield Watched(thing, name, own or alarm, own is not None)


def _metrics_namespace(deployed: Deployed) -> dict[str, str]:
    """Return the variable that names the metrics, as the function has it, or else the stanza."""
    variables = [each.variables for each in deployed.functions_by_name().values()]
    if deployed.deployment is not None:
        variables.append(deployed.deployment.environment)
    given = next((each[_NAMESPACE] for each in variables if _NAMESPACE in each), None)
    return {} if given is None else {_NAMESPACE: given}


def _celery_name(queue: Queue) -> str | None:
    return queue.figures.celery_name if queue.figures else None


def _table(thing: Thing | None, of: str) -> list[tuple[Thing, str, str | None]]:
    return [(thing, thing.resource, of)] if thing is not None else []


def _alarms_of(deployed: Deployed, watched: Watched) -> list[Any] | None:
    dimensions = [{"Name": watched.alarm.dimension[0], "Value": watched.name}]
    answer = deployed.reader.look(
        "cloudwatch",
        "describe_alarms_for_metric",
        watched.thing,
        "cloudwatch:DescribeAlarmsForMetric",
        proves=False,
        Namespace=watched.alarm.namespace,
        MetricName=watched.alarm.metric,
        Dimensions=dimensions,
    )
    if answer is None:
        return None
    # An emulator may not look at the dimensions.
    return [each for each in answer.said["MetricAlarms"] if each.get("Dimensions") == dimensions]
