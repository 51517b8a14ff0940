"""What was published, and may run once: the key that all copies of a call have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery.worker.request import Request
from kombu.utils.json import JSONEncoder

from lambda_celery.envelope import MARK_HEADER
from lambda_celery.exceptions import UnreadableMessageError
from lambda_celery.publishing.marks import identity
from lambda_celery.table.own_keys import LIFE_OPTION, options_of, own_key
from lambda_celery.table.schema import publication_key

#: As kombu writes them. The text is a part of the key: another one would be another publication.
_written = JSONEncoder(sort_keys=True).encode


@dataclass(frozen=True)
class Publication:
    """What was published, and may run once."""

    key: str
    #: By what the calls that its run makes are told from those of other runs.
    mark: str
    #: The id of the call, if the task has a key of its own for it, which others may share.
    call_id: str | None = None
    #: How long the own key is remembered, if the task says so.
    own_life_seconds: int | None = None

    @property
    def has_own_key(self) -> bool:
        """Whether the task has a key of its own for the call."""
        return self.call_id is not None


def publication_of(request: Request, retries: int | None = None) -> Publication:
    """Return what was published, with its key: task, mark, retry number and arguments.

    The mark (:mod:`lambda_celery.publishing.marks`) is that of the call. A stock publisher's
    message has none: there it is the task's id. The SQS message id is no part of it: a network
    retry of the producer and a redrive have a new one. Retry number and arguments are, because
    a stock worker's retries have the mark, or the id, of what they retry, and can differ in
    their arguments alone. So is the nesting of ``Task.replace()``, which sends the same task
    under the same id.

    A key of the task's own takes the place of id and arguments.

    :param retries: another retry number than the request's own.
    :raises UnreadableMessageError: the task's own function cannot make a key.
    """
    headers: Mapping[str, Any] = request.request_dict
    sent_mark = request.message.headers.get(MARK_HEADER)
    try:
        own = own_key(request.task, request.args, request.kwargs)
    except Exception as exc:
        raise UnreadableMessageError(
            f"idempotency_key of {request.type} raised {exc!r} for its arguments."
        ) from exc
    number = str((headers.get("retries") or 0) if retries is None else retries)
    parts: list[Any]
    if own is not None:
        parts = ["own", own, number]
    else:
        try:
            arguments = _written([request.args, request.kwargs])
        except RecursionError as exc:
            raise UnreadableMessageError("Its arguments are nested too deeply.") from exc
        except (TypeError, ValueError):  # pickled objects, mixed key types
            arguments = request.message.body
        parts = [identity(sent_mark, request.id), number, arguments]
    if nesting := headers.get("replaced_task_nesting"):
        parts.append(str(nesting))
    try:
        raw = [each if isinstance(each, bytes) else each.encode() for each in parts]
    except UnicodeEncodeError as exc:
        raise UnreadableMessageError(
            f"idempotency_key of {request.type} is no text that can be written down: {exc}."
        ) from exc
    digest = hashlib.sha256(b"\0".join([*raw, b""])).hexdigest()
    key = publication_key(request.type, digest)
    mark = sent_mark or f"{key}#{request.id}"
    if own is None:
        return Publication(key, mark)
    return Publication(key, mark, request.id, options_of(request.task).get(LIFE_OPTION))
