"""How messages are written and read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kombu.compression import get_decoder
from kombu.serialization import registry as serializers

from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.finding import option_place
from lambda_celery.decompression import DECOMPRESSORS


@registry.rule("serializer", "A serializer that is not accepted")
def serializer(facts: Facts) -> Iterator[Finding]:
    """A `serializer`, of a task, a call or `task_serializer`, is not in `accept_content`.

    The function refuses such a message, as a worker does, and it goes to the dead-letter queue.
    Add the serializer to `accept_content`, or use one that is there. A serializer that kombu does
    not know fails in the call.
    """
    conf = facts.app.conf
    accepted = {_content_type(each) for each in conf.accept_content or ()}
    used: list[tuple[str | None, Any, Any]] = [("task_serializer", conf.task_serializer, None)]
    for task in facts.tasks:
        if task.task.serializer and task.task.serializer != conf.task_serializer:
            place = option_place(facts, task, "serializer")
            used.append((task.name, task.task.serializer, place))
    for site in facts.call_sites:
        value = site.call.constant(site.options.get("serializer"))
        if isinstance(value, str):
            used.append((site.task, value, site.call.place))
    for subject, name, place in used:
        kind = _content_type(name)
        if kind not in accepted:
            known = name in serializers.name_to_type
            yield Finding(
                "serializer",
                Grade.RED,
                subject,
                f"The serializer {name!r} is not in accept_content, so the function refuses the "
                "message."
                if known
                else f"The serializer {name!r} is not known to kombu.",
                "Add it to accept_content, or use one that is there.",
                place,
            )


def _content_type(name: Any) -> Any:
    return serializers.name_to_type.get(name, name)


@registry.rule("pickle", "Pickle")
def pickle(facts: Facts) -> Iterator[Finding]:
    """`accept_content` has pickle, or a task is sent by it.

    It works. But who may send to the queue may run any code in the function, so the queue's
    policy is all that protects it. And arguments must be of classes that web process and function
    have alike. Use JSON where you can.
    """
    conf = facts.app.conf
    accepted = {_content_type(each) for each in conf.accept_content or ()}
    if _content_type("pickle") in accepted:
        yield Finding(
            "pickle",
            Grade.AMBER,
            "accept_content",
            "The function reads pickle: who may send to the queue may run any code in it.",
            "Use JSON, or keep sqs:SendMessage to the producers' roles.",
        )
    for task in facts.tasks:
        if task.task.serializer == "pickle":
            yield task.finding(
                "pickle",
                Grade.AMBER,
                "The task's arguments are pickled: their classes must be alike in the function.",
                "Use JSON, with primary keys in the place of objects.",
                option_place(facts, task, "serializer"),
            )


@registry.rule("compression", "Compression that is not read")
def compression(facts: Facts) -> Iterator[Finding]:
    """A `compression`, of a task, a call or `task_compression`, is none of gzip, bzip2 and lzma.

    Others, such as zstd and brotli, cannot be decompressed up to a size alone, so the function does
    not read them, and the message goes to the dead-letter queue. SQS takes 1 MiB, and S3 the
    rest: most projects need none.
    """
    used: list[tuple[str | None, Any, Any]] = [
        ("task_compression", facts.app.conf.task_compression, None)
    ]
    for task in facts.tasks:
        value = getattr(task.task, "compression", None)
        used.append((task.name, value, option_place(facts, task, "compression")))
    for site in facts.call_sites:
        value = site.call.constant(site.options.get("compression"))
        used.append((site.task, value, site.call.place))
    for subject, name, place in used:
        if isinstance(name, str) and name not in DECOMPRESSORS:
            try:
                get_decoder(name)
                known = True
            except KeyError:
                known = False
            yield Finding(
                "compression",
                Grade.RED,
                subject,
                f"The compression {name!r} is not read by the function."
                if known
                else f"The compression {name!r} is not known to kombu.",
                "Use gzip, bzip2 or lzma, or none.",
                place,
            )
