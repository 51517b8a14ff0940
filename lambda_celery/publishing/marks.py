"""The mark of a publication: by it, what is applied again is told from what is delivered again.

A task's id cannot do that: a frozen signature is applied twice under one id, and a parent that
runs again calls its children under new ones. The mark is made once a call, before anything is
sent. So the copies that a network retry, a redelivery or a redrive makes have one mark.

What a task calls while the function runs it has a mark made of the task's own one, of what is
called, and of how many equal calls came before in that run: a second run makes the same marks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from lambda_celery.message import OutgoingMessage

#: Drawn anew whenever a canvas is built; no part of what is called.
_DRAWN = {"chord_size", "group_id", "group_index", "parent_id", "reply_to", "root_id", "task_id"}
#: Stands in a mark that is made of another, and in no other.
_OF_A_RUN = "-"


@dataclass(frozen=True)
class RunningCall:
    """The call that a run is of."""

    task_id: str
    mark: str
    #: What its message had, beside the body.
    message_group_id: str | None = None
    message_attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Takes what the run would send in its own place, where its caller is to call that.
    keep_own: Callable[[OutgoingMessage], None] | None = None


class _Run:
    """The run under way, and the calls that it has made."""

    def __init__(self, call: RunningCall) -> None:
        self.call = call
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()  # asyncio.to_thread(task.delay) comes from several threads

    def count(self, call: str) -> int:
        """Return the number of *call* among its equals."""
        with self._lock:
            self._calls[call] += 1
            return self._calls[call]


_run: ContextVar[_Run | None] = ContextVar("lambda_celery_run", default=None)


class Running:
    """A context in which the marks of calls are made of that of *call*, which runs."""

    def __init__(self, call: RunningCall) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = _run.set(_Run(self._call))

    def __exit__(self, *_: object) -> None:
        _run.reset(self._token)


def own_call(task_id: str | None) -> RunningCall | None:
    """Return the call whose run publishes *task_id* in its own place, such as its retry.

    ``None`` if no run does.
    """
    run = _run.get()
    return run.call if run is not None and run.call.task_id == task_id else None


def new_mark() -> str:
    """Return the mark of a call that no run makes."""
    return uuid.uuid4().hex


def mark_for(task_id: str) -> str:
    """Return the mark of a call that is made once, under an id of its own: *task_id*."""
    return hashlib.sha256(task_id.encode(errors="surrogatepass")).hexdigest()[:32]


def mark_of(message: Mapping[str, Any]) -> str:
    """Return the mark of the call that *message*, in kombu's form, is published for."""
    if (run := _run.get()) is None:
        return new_mark()
    headers = message["headers"]
    called = json.dumps(
        [run.call.mark, headers["task"], headers.get("retries"), headers.get("group_index")]
    )
    digest = hashlib.sha256(called.encode(errors="surrogatepass"))
    digest.update(_content(message))
    call = digest.hexdigest()[:32]
    return f"{call}{_OF_A_RUN}{run.count(call)}"


def id_in_run(content: str) -> str | None:
    """Return an id for *content*, which a second run of the same call gives it as well.

    For what calls have among their arguments: an id that is drawn would make them others. ``None``
    outside of a run.
    """
    if (run := _run.get()) is None:
        return None
    named = json.dumps([run.call.mark, content])
    digest = hashlib.sha256(named.encode()).hexdigest()[:32]
    return f"{digest}.{run.count(digest)}"


def identity(mark: str | None, task_id: str) -> str:
    """Return what all copies of a call have in common: its *mark*, and its *task_id* as well.

    But for what a run has called, whose next run draws another id. A stock publisher's message
    has no mark.
    """
    if mark is None:
        return task_id
    return mark if is_of_a_run(mark) else f"{task_id}#{mark}"


def is_of_a_run(mark: str) -> bool:
    """Whether *mark* is made of another: then a second run of that calls under the same."""
    return _OF_A_RUN in mark


def _content(message: Mapping[str, Any]) -> bytes:
    body = message["body"]
    raw = base64.b64decode(body) if message["properties"]["body_encoding"] == "base64" else body
    try:
        arguments, keywords, following = json.loads(raw)
        called = [arguments, keywords, _without_what_is_drawn(following)]
    except ValueError:  # another serialiser, compressed, or the older protocol
        return raw if isinstance(raw, bytes) else raw.encode(errors="surrogatepass")
    return json.dumps(called, sort_keys=True).encode()


def _without_what_is_drawn(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_what_is_drawn(each) for name, each in value.items() if name not in _DRAWN
        }
    if isinstance(value, list):
        return [_without_what_is_drawn(each) for each in value]
    return value
