"""Switching the event source mappings of queues off and on, and waiting until they are."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any

from celery import Celery

from lambda_celery import aws
from lambda_celery.check.deployed.deployment import (
    Deployed,
    Queue,
    SourceMapping,
    queue_names,
)
from lambda_celery.conf import Settings, setting_names, settings_of
from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError

#: Lambda takes a minute or so.
_PATIENCE_SECONDS = 180
_BETWEEN_LOOKS_SECONDS = 1
_ON, _OFF = "Enabled", "Disabled"
#: Lambda changes one thing of a mapping after the other.
_IN_CHANGE = "ResourceInUseException"
_DAY = 86_400


def switch(app: Celery, names: Collection[str], *, on: bool) -> Iterator[str]:
    """Pause or continue queues; yield a sentence for each mapping, and for what is on each queue.

    Nothing is changed before all mappings of all queues are found.

    :param names: of queues, as Celery or SQS calls them; none are all queues of the settings.
    :raises LambdaCeleryError: there is no such queue, nothing takes from it, AWS refuses, or the
        mappings are not in their state after three minutes. It says which were asked for it.
    """
    settings = settings_of(app)
    urls = _urls(settings, names)
    mappings = list(_mappings(app, settings, urls))
    wanted, done = (_ON, "on") if on else (_OFF, "paused")
    pending = [each for each in mappings if each.said.get("State") != wanted]
    for mapping in mappings:
        if mapping not in pending:
            yield f"{_named(settings, mapping)} was {done} already."
    for mapping in _reached(settings, pending, wanted):
        yield f"{_named(settings, mapping)} is {done} now."
    for queue in _queues(Deployed(app, settings), urls):
        yield _what_is_there(settings, queue, on=on)


def _urls(settings: Settings, names: Collection[str]) -> list[str]:
    if not settings.queue_urls:
        raise ConfigurationError(f"The settings name no queue: set {setting_names('queue_url')}.")
    if not names:
        return list(settings.queue_urls)
    known = {name: url for url in settings.queue_urls for name in queue_names(settings, url)}
    for name in names:
        if name not in known:
            there_are = ", ".join(_name(settings, url) for url in settings.queue_urls)
            raise ConfigurationError(f"The settings name no queue {name!r}. There are {there_are}.")
    return list(dict.fromkeys(known[name] for name in names))


def _queues(deployed: Deployed, urls: Collection[str]) -> Iterator[Queue]:
    found = {queue.url: queue for queue in deployed.queues() if queue.url in urls}
    _check_seen(deployed)
    for url in urls:
        if url not in found:
            raise ConfigurationError(
                f"There is no queue {_name(deployed.settings, url)} in this account and region. "
                f"Check {setting_names('queue_url')} and {setting_names('queues')}."
            )
        yield found[url]


def _mappings(app: Celery, settings: Settings, urls: Collection[str]) -> Iterator[SourceMapping]:
    deployed = Deployed(app, settings)
    for queue in _queues(deployed, urls):
        found = deployed.mappings_of(queue)
        _check_seen(deployed)
        if not found:
            raise ConfigurationError(
                f"No event source mapping takes from the queue {_name(settings, queue.url)}: "
                "nothing was changed."
            )
        yield from found


def _check_seen(deployed: Deployed) -> None:
    if unseen := deployed.reader.take_unseen():
        raise ConfigurationError(unseen[0].sentence)


def _reached(
    settings: Settings, mappings: Collection[SourceMapping], wanted: str
) -> Iterator[SourceMapping]:
    """Yield each of *mappings* when it is in the state *wanted*, which it is asked for once."""
    pending = list(mappings)
    asked: list[SourceMapping] = []
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        for mapping in list(pending):
            state = _call(settings, mapping, "get_event_source_mapping")["State"]
            if state == wanted:
                pending.remove(mapping)
                yield mapping
            # One that is being changed takes no change; that may be what is wanted.
            elif state in (_ON, _OFF) and mapping not in asked:
                answer = _call(
                    settings, mapping, "update_event_source_mapping", Enabled=wanted == _ON
                )
                if answer is not None:
                    asked.append(mapping)
        if not pending:
            return
        if time.monotonic() >= end:
            names = " ".join(f"{_named(settings, each)} is not." for each in pending)
            raise LambdaCeleryError(
                f"Not everything is {wanted} after {_PATIENCE_SECONDS} s. {names} Run it again."
            )
        time.sleep(_BETWEEN_LOOKS_SECONDS)


def _call(settings: Settings, mapping: SourceMapping, operation: str, **options: Any) -> Any:
    """Return Lambda's answer; ``None`` if the mapping is being changed, and takes no change."""
    client = aws.client("lambda", settings)
    try:
        return getattr(client, operation)(UUID=mapping.said["UUID"], **options)
    except aws.AWS_ERRORS as exc:
        if aws.error_code(exc) == _IN_CHANGE:
            return None
        action = f"lambda:{client.meta.method_to_api_mapping[operation]}"
        sentence = aws.explain(exc, action=action, resource=f"the {mapping.thing.subject}")
        raise ConfigurationError(sentence) from aws.cause(exc, settings)


def _named(settings: Settings, mapping: SourceMapping) -> str:
    function = str(mapping.said["FunctionArn"]).split(":", 6)[-1]
    queue = _name(settings, mapping.queue.url)
    return f"The mapping {mapping.said['UUID']} from the queue {queue} to the function {function}"


def _name(settings: Settings, url: str) -> str:
    return next(iter(queue_names(settings, url)))


def _what_is_there(settings: Settings, queue: Queue, *, on: bool) -> str:
    name = _name(settings, queue.url)
    waiting = _messages(queue, "ApproximateNumberOfMessages")
    if on:
        return f"The queue {name} has about {waiting} waiting."
    in_flight = _messages(queue, "ApproximateNumberOfMessagesNotVisible")
    return (
        f"Invocations under way go on to their end. The queue {name} has about {in_flight} in "
        f"flight and about {waiting} waiting, and keeps each for "
        f"{_days(queue.retention_seconds)} after it was sent."
    )


def _messages(queue: Queue, attribute: str) -> str:
    count = int(queue.attributes[attribute])
    return f"{count:,} message{'' if count == 1 else 's'}"


def _days(seconds: int) -> str:
    if seconds >= _DAY:
        days = seconds // _DAY
        return f"{days} day{'' if days == 1 else 's'}"
    return f"{seconds} s"
