"""The alarms: those that the infrastructure makes must be there, be on, and tell somebody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade
from lambda_celery.infrastructure.alarms import Alarm
from lambda_celery.infrastructure.alarms import alarms as alarms_of_the_definition
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment


@deployed_rule("deployed-alarms", "Something that nobody is told of")
def alarms(deployed: Deployed) -> Iterator[Difference]:
    """An alarm that the infrastructure makes is not there, is switched off, or tells nobody.

    Alarms are looked for by their metric, whatever their names: the age of the queue's oldest
    message, messages on the dead-letter queue, errors, throttles and duration of the function,
    and throttled reads and writes of the table. An alarm on an expression of several metrics is
    not found by its metric.
    """
    for thing, watched, name in _watched(deployed):
        found = _alarms_of(deployed, thing, watched, name)
        if found is None:
            continue
        if not found:
            yield Difference(
                Grade.AMBER,
                thing,
                f"No alarm watches {watched.metric}. It would say: {watched.description}",
                Wrong.AWS,
                "add the alarm, by deploying the infrastructure anew.",
            )
        elif not any(alarm.get("ActionsEnabled") for alarm in found):
            yield Difference(
                Grade.AMBER,
                thing,
                f"The actions of the alarm {found[0]['AlarmName']}, on {watched.metric}, are "
                "switched off.",
                Wrong.AWS,
                "set ActionsEnabled of the alarm to true.",
            )
        elif not any(alarm.get("ActionsEnabled") and alarm.get("AlarmActions") for alarm in found):
            yield Difference(
                Grade.AMBER,
                thing,
                f"The alarm {found[0]['AlarmName']}, on {watched.metric}, has no action: nobody "
                "is told.",
                Wrong.AWS,
                "give it an SNS topic as AlarmActions, by alarm_email or alarm_topic_arn.",
            )


def _watched(deployed: Deployed) -> Iterator[tuple[Thing, Alarm, str]]:
    """Yield what is watched, the alarm that the infrastructure makes for it, and its name."""
    model = Deployment(app="app", name="app", results=deployed.results_table is not None)
    figures = compute(model)
    [queue], [function] = figures.queues.values(), figures.functions.values()
    there = {
        ("QueueName", queue.name): [(each.thing, each.name) for each in deployed.queues()],
        ("QueueName", queue.dead_letter_queue_name): [
            (each.thing, each.name)
            for each in map(deployed.dead_letter_queue, deployed.queues())
            if each is not None
        ],
        ("FunctionName", function.name): [
            (each.thing, name) for name, each in deployed.functions_by_name().items()
        ],
        ("TableName", f"{model.name}-idempotency"): _table(deployed.idempotency_table_thing()),
        ("TableName", f"{model.name}-results"): _table(deployed.results_table_thing()),
    }
    for alarm in alarms_of_the_definition(model, figures):
        for thing, name in dict.fromkeys(there[alarm.dimension]):
            yield thing, alarm, name


def _table(thing: Thing | None) -> list[tuple[Thing, str]]:
    return [(thing, thing.resource)] if thing is not None else []


def _alarms_of(deployed: Deployed, thing: Thing, alarm: Alarm, name: str) -> list[Any] | None:
    dimensions = [{"Name": alarm.dimension[0], "Value": name}]
    answer = deployed.reader.look(
        "cloudwatch",
        "describe_alarms_for_metric",
        thing,
        "cloudwatch:DescribeAlarmsForMetric",
        proves=False,
        Namespace=alarm.namespace,
        MetricName=alarm.metric,
        Dimensions=dimensions,
    )
    if answer is None:
        return None
    # An emulator may not look at the dimensions.
    return [each for each in answer.said["MetricAlarms"] if each.get("Dimensions") == dimensions]
