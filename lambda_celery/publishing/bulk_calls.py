"""One task, called many times: its messages are filled in instead of built one by one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import celery.app.amqp
import celery.app.base
import celery.app.routes
import celery.app.task
import celery.backends.base
from celery import signals
from celery.utils import uuid
from kombu import serialization

from lambda_celery.celery_hooks.declared import is_pydantic
from lambda_celery.celery_hooks.registry import BY_CELERY
from lambda_celery.envelope import MARK_HEADER, REDACTED
from lambda_celery.message import is_fifo
from lambda_celery.publishing.argument_repr import flat_repr
from lambda_celery.publishing.held_messages import (
    Outgoing,
    caught,
    hold,
    open_batch,
)
from lambda_celery.publishing.marks import new_mark
from lambda_celery.trace_context import current_xray_header
from lambda_celery.traced import is_plain

if TYPE_CHECKING:
    from lambda_celery.publishing.bulk_sender import BulkSender

Call = tuple[Any, Mapping[str, Any]]

#: Publish options that are the same for each of the calls, whatever their arguments and times.
_ALIKE = {
    "add_to_parent", "exchange", "headers", "ignore_result", "MessageGroupId", "priority", "queue",
    "retry", "retry_policy", "routing_key", "soft_time_limit", "time_limit",
}  # fmt: skip


def delay_many(task: Any, iterable: Iterable[Any], *, ids: bool = True) -> list[str]:
    """Call *task* for each tuple of arguments in *iterable*, as ``delay(*args)`` does.

    The iterable is consumed as its messages are sent, a few hundred at a time, and within a
    :func:`~lambda_celery.batch` they join that. Return the task ids; with ``ids=False`` an
    empty list, so that a million calls need no more memory than a thousand.

    :raises BatchPublishError: AWS did not take some messages, which it lists; nothing more
        was taken from the iterable. If the iterable raises, what came before is sent.
    """
    return apply_async_many(task, ((args, {}) for args in iterable), ids=ids)


def apply_async_many(
    task: Any, iterable: Iterable[Call], *, ids: bool = True, **options: Any
) -> list[str]:
    """Call *task* for each pair of args and kwargs in *iterable*, as ``apply_async`` does.

    The *options* are those of ``apply_async``, and the same for each call. The rest is as
    :func:`delay_many` has it.
    """
    if options.get("task_id"):
        raise TypeError("The calls cannot share one task_id: leave it out.")
    from lambda_celery.publishing.bulk_sender import BulkSender  # loads boto3

    kept: list[str] = []
    with BulkSender() as sender:
        for task_id in _calls(task, map(_checked, iterable), options, sender):
            if ids:
                kept.append(task_id)
            if sender.has_failed:
                break
    return kept


def _checked(call: Any) -> Call:
    try:
        args, kwargs = call
    except (TypeError, ValueError):
        raise TypeError(
            f"A call is {call!r}: give each as a pair, as in ((address,), {{}})."
        ) from None
    if not (args is None or isinstance(args, list | tuple)):
        raise TypeError(
            f"The arguments of a call are {args!r}: give them as a tuple, as in (address,)."
        )
    return args or (), kwargs or {}


def _calls(
    task: Any, calls: Iterator[Call], options: dict[str, Any], sender: BulkSender
) -> Iterator[str]:
    """Make the *calls*; yield the id of each. The first is made by Celery and is the template."""
    template = traced = None
    is_plain = options.keys() <= _ALIKE and _is_plain(task)
    for args, kwargs in calls:
        if template is not None and current_xray_header() == traced:
            task_id = uuid()
            _send(sender, template(task_id, args, kwargs))
            yield task_id
            continue
        result, made = _made(task, args, kwargs, options)
        for each in made:
            _send(sender, each)
        yield str(result.id)
        if is_plain:
            template, traced = _template(task, made, args, kwargs), current_xray_header()
            is_plain = template is not None


def _made(
    task: Any, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> tuple[Any, list[Outgoing]]:
    """Call *task*; return what that returns, and the messages that it would send to SQS."""
    # Celery's, or whatever else somebody has put there; not our own way into here.
    apply_async = getattr(task.apply_async, BY_CELERY, task.apply_async)
    with caught() as messages:
        result = apply_async(args, kwargs, **options)
    return result, messages


def call_in_batch(
    task: Any, positional: tuple[Any, ...], named: dict[str, Any], by_celery: Callable[..., Any]
) -> Any:
    """Call *task* within a batch, as *by_celery* does with *positional* and *named*.

    The first call is made by Celery and is the template of those that are alike.
    """
    call = _alike(task, positional, named)
    batch = open_batch()
    if call is None or batch is None:
        return by_celery(*positional, **named)
    args, kwargs, options, key = call
    if (task, key) not in batch.templates:
        result, made = _made(task, args, kwargs, options)
        from lambda_celery.publishing.bulk_sender import BulkSender  # loads boto3

        with BulkSender() as sender:  # where the batch has ended meanwhile
            for each in made:
                _send(sender, each)
        template = _template(task, made, args, kwargs)
        batch.templates[task, key] = template, result.ignored
        return result
    template, is_ignored = batch.templates[task, key]
    if template is None:
        return by_celery(*positional, **named)
    task_id = uuid()
    if not hold(template(task_id, args, kwargs)):
        return by_celery(*positional, **named)
    result = task.AsyncResult(task_id)
    result.ignored = is_ignored
    return result


def _alike(
    task: Any, positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any], str] | None:
    """Return a call's args, kwargs and options, and what the options say; ``None`` if it is not
    one of those of which the first is a template.
    """
    if len(positional) > 2:
        return None
    options = dict(named)
    try:
        args = positional[0] if positional else options.pop("args", None)
        kwargs = positional[1] if len(positional) > 1 else options.pop("kwargs", None)
        # As text, for a mapping that the caller changes would be equal to itself.
        key = json.dumps(options, sort_keys=True) if options else ""
        key += current_xray_header() or ""
    except (TypeError, ValueError):
        return None
    are_arguments = isinstance(args, list | tuple | None) and isinstance(kwargs, dict | None)
    if not (are_arguments and options.keys() <= _ALIKE and _is_plain(task)):
        return None
    return args or (), kwargs or {}, options, key


def _send(sender: BulkSender, outgoing: Outgoing) -> None:
    if not hold(outgoing):
        sender.add(outgoing)


def _is_plain(task: Any) -> bool:
    """Whether nothing but Celery itself has a say in what a call of *task* sends."""
    app = task.app
    return (
        not app.conf.task_always_eager
        and not any(
            each.receivers
            for each in (
                signals.before_task_publish, signals.after_task_publish, signals.task_sent,
            )
        )
        and app.current_worker_task is None
        and not is_pydantic(task)
        and all(isinstance(each, celery.app.routes.MapRoute) for each in app.amqp.router.routes)
        and is_plain(task.__class__.apply_async, celery.app.task)
        and is_plain(task.__class__.shadow_name, celery.app.task)
        and is_plain(app.send_task, celery.app.base)
        and is_plain(app.amqp.as_task_v2, celery.app.amqp)
    )  # fmt: skip


def _template(
    task: Any, made: list[Outgoing], args: Any, kwargs: Any
) -> Callable[[str, Any, Any], Outgoing] | None:
    """Return what fills in the message that Celery *made* of a call; ``None`` if it cannot be.

    Whether it can is tried: filling in the same call must give the same message.
    """
    if len(made) != 1:
        return None
    (first,) = made
    text = first.message.body
    is_base64 = not text.startswith("{")
    envelope = json.loads(base64.b64decode(text) if is_base64 else text)
    headers, properties = envelope["headers"], envelope["properties"]
    if headers.get("id") is None or headers["eta"] or headers["expires"]:
        return None  # another protocol; or times that count from each call
    if not (
        headers["ignore_result"] or is_plain(task.app.backend.on_task_call, celery.backends.base)
    ):
        return None  # the result back end wants to hear of each call
    task_id, delivery_tag = headers["id"], properties["delivery_tag"]
    body_is_base64 = properties["body_encoding"] == "base64"
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    is_redacted = headers["argsrepr"] == REDACTED
    amqp, levels = task.app.amqp, task.app.conf.task_repr_maxlevels
    check = task.__header__ if task.typing else None
    needs_deduplication_id = is_fifo(first.queue_url)

    mark = uuid()
    envelope["body"] = f"{mark}body{mark}"
    publication, headers[MARK_HEADER] = headers[MARK_HEADER], f"{mark}publication{mark}"
    headers["id"] = properties["correlation_id"] = f"{mark}id{mark}"
    if headers["root_id"] == task_id:
        headers["root_id"] = headers["id"]
    properties["delivery_tag"] = f"{mark}tag{mark}"
    if not is_redacted:
        headers["argsrepr"] = f"{mark}args{mark}"
        headers["kwargsrepr"] = f"{mark}kwargs{mark}"
    # Every other part is the name of what stands there.
    parts = json.dumps(envelope).split(mark)

    def filled(new_id: str, new_publication: str, tag: str, args: Any, kwargs: Any) -> str:
        _, _, content = serialization.dumps((args, kwargs, embed), "json")
        if body_is_base64:
            content = base64.b64encode(content.encode()).decode()
        values = {
            "id": new_id, "publication": new_publication, "tag": tag,
            "body": json.dumps(content)[1:-1],
        }  # fmt: skip
        if not is_redacted:
            args_repr = flat_repr(args, amqp.argsrepr_maxsize, levels)
            kwargs_repr = flat_repr(kwargs, amqp.kwargsrepr_maxsize, levels)
            values["args"] = json.dumps(args_repr)[1:-1]
            values["kwargs"] = json.dumps(kwargs_repr)[1:-1]
        whole_parts = parts.copy()  # several threads may fill it in
        whole_parts[1::2] = [values[name] for name in names]
        whole = "".join(whole_parts)
        return base64.b64encode(whole.encode()).decode() if is_base64 else whole

    names = parts[1::2]

    def fill(new_id: str, args: Any, kwargs: Any) -> Outgoing:
        if check is not None:
            check(*args, **kwargs)
        message = replace(
            first.message,
            body=filled(new_id, new_mark(), uuid(), args, kwargs),
            task_id=new_id,
            deduplication_id=uuid() if needs_deduplication_id else None,
        )
        return first._replace(message=message)

    return fill if filled(task_id, publication, delivery_tag, args, kwargs) == text else None
