"""Logging: Powertools' JSON lines, with the task under way in each of them.

Or, where ``lambda_log_format`` says so, the lines that a worker prints. The local runner sets it
on a terminal.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any

from aws_lambda_powertools.logging.formatter import (
    RESERVED_LOG_ATTRS,
    LambdaPowertoolsFormatter,
)
from celery import Celery, signals
from celery.app.log import TaskFormatter
from celery.app.trace import LOG_FAILURE, LOG_IGNORED, LOG_REJECTED, LOG_RETRY, LOG_SUCCESS
from celery.utils.log import ColorFormatter, get_logger
from kombu.utils.encoding import safe_repr

from lambda_celery.celery_hooks.thread_state import current_task
from lambda_celery.conf import Settings
from lambda_celery.terminal import is_coloured
from lambda_celery.trace_context import XRAY_HEADER, trace_id_under_way, xray_trace_id
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import End
from lambda_runtime.python_hooks import write_holding_interpreter

try:
    from orjson import dumps as _fast_dumps
except ImportError:  # none of the requirements
    _fast_dumps = None  # type: ignore[assignment]

#: Where Lambda's runtime puts X-Ray's trace id of the invocation.
TRACE_VARIABLE = "_X_AMZN_TRACE_ID"
#: What a record has that is no field of its own, or none that is written.
_STANDARD_FIELDS = frozenset({*RESERVED_LOG_ATTRS, "data", "message"})
#: Of what orjson writes the same as json, but for the exponents of floats: 1e16, and 1e+16.
_SIMPLE_TYPES = frozenset({bool, int, str})
#: Where Celery's tracer, and its request, say what has become of a call; and how they do.
_TRACER = "celery.app.trace"
_REQUEST = "celery.worker.request"
_OF_TRACER = {
    LOG_SUCCESS: End.SUCCEEDED,
    LOG_FAILURE: End.FAILED,
    LOG_RETRY: End.RETRIED,
    LOG_IGNORED: End.IGNORED,
    # What is not to be requeued is parked, and that line comes later.
    LOG_REJECTED: Fate.RETURNED,
}
_OF_REQUEST = "Discarding revoked task"
#: How the names of this package's loggers begin: what they say of an end is what they have in it.
_OURS = "lambda_runtime."
#: How much is told of what a task raised, beside the message and the traceback.
_ERROR_CHARACTERS = 200
#: How text begins that Powertools would read as JSON.
_BEGINS_JSON = frozenset('{["-0123456789tfnIN \t\r\n')

_under_way: ContextVar[Delivery | None] = ContextVar("lambda_runtime_delivery", default=None)
_told: ContextVar[bool] = ContextVar("lambda_runtime_retry_told", default=False)


class TaskFields(logging.Filter):
    """Adds the invocation, and the message and task under way, to every log record."""

    def __init__(self) -> None:
        super().__init__()
        self.request_id: str | None = None

    def of(self, delivery: Delivery) -> _UnderWay:
        """Add the fields of *delivery* to what is logged in the context."""
        return _UnderWay(delivery)

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; drop nothing."""
        if self.request_id is not None:
            record.function_request_id = self.request_id
        if (delivery := _under_way.get()) is not None:
            record.message_id = delivery.message_id
            record.receive_count = delivery.receive_count
            record.message_age_seconds = round(delivery.age_seconds, 3)
            record.message_xray_trace_id = xray_trace_id(delivery.trace_header)
        task = current_task()
        if task is not None and (request := task.request) is not None:
            record.task_name = task.name
            record.task_id = request.id
            record.retries = request.retries
            headers = vars(request)
            record.trace_id = trace_id_under_way(headers)
            if getattr(record, "message_xray_trace_id", None) is None:
                # What a schedule has sent has no attributes.
                record.message_xray_trace_id = xray_trace_id(headers.get(XRAY_HEADER))
        if delivery is not None and (end := _end_of(record, delivery)) is not None:
            _add_end(record, end, delivery)
        return True


def _end_of(record: logging.LogRecord, delivery: Delivery) -> str | None:
    """Return what has become of the call in *delivery*, if *record* is the line that says so."""
    if record.name == _TRACER:
        end = _OF_TRACER.get(record.msg)
        if end is None or _about(record).get("id") != delivery.note.task_id:
            return None  # of a task that is called in the body
        return end.value if _tells_something_new(record) else None
    if record.name == _REQUEST and str(record.msg).startswith(_OF_REQUEST):
        return End.REVOKED.value
    # A task's own line may have a field of that name, which is the task's.
    return getattr(record, "end", None) if record.name.startswith(_OURS) else None


def _add_end(record: logging.LogRecord, end: str, delivery: Delivery) -> None:
    """Have *record* tell one attempt: by these lines, those of a task and its canvas are found."""
    note = delivery.note
    record.end = end
    record.queue = delivery.source_arn.rpartition(":")[2]
    if note.task_id is not None:
        record.task_name, record.task_id, record.retries = note.task, note.task_id, note.retries
        if note.root_id != note.task_id:  # as it is for most
            record.root_id = note.root_id
        if note.parent_id != note.task_id:  # as it is for a retry, which the task has sent
            record.parent_id = note.parent_id
    if note.began_at is not None:
        record.duration_ms = int((record.created - note.began_at) * 100_000) / 100
    error = _about(record).get("exc")
    if error is None and record.exc_info and record.exc_info[1] is not None:
        error = safe_repr(record.exc_info[1])
    if error is not None:
        record.error = error[:_ERROR_CHARACTERS]


def _about(record: logging.LogRecord) -> dict[str, Any]:
    """Return what Celery has added to *record*."""
    about = getattr(record, "data", None)
    return about if isinstance(about, dict) else {}


class _UnderWay:
    """A context in which what is logged is about *delivery*."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def __enter__(self) -> None:
        self._token: Token[Delivery | None] = _under_way.set(self._delivery)

    def __exit__(self, *_: object) -> None:
        _under_way.reset(self._token)


@contextmanager
def retry_told() -> Iterator[None]:
    """Say that of a retry our own line has told: a person's log leaves out Celery's."""
    token = _told.set(True)
    try:
        yield
    finally:
        _told.reset(token)


def _tells_something_new(record: logging.LogRecord) -> bool:
    return record.msg != LOG_RETRY or not _told.get()


class Formatter(LambdaPowertoolsFormatter):
    """Powertools' JSON, without what Celery adds for custom handlers: the arguments are in it.

    A plain record, as most are, is written here, by orjson where that is installed: Powertools
    takes four times as long, and twice as long as without.
    """

    def __init__(self) -> None:
        super().__init__()
        self._plain_format = self.log_format.copy()
        self._second: tuple[int, str, str] = (-1, "", "")
        self._trace: tuple[Any, str | None] = (None, None)
        self._encode = json.JSONEncoder(
            ensure_ascii=False, separators=(",", ":"), default=str
        ).encode

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as JSON."""
        is_plain = (
            record.exc_info is None
            and self.log_format == self._plain_format
            and self.json_indent is None
            and not self.thread_safe_get_current_keys()
        )
        if not is_plain:
            return super().format(record)
        message: Any = record.msg
        if record.args:
            message = record.getMessage()
        elif not isinstance(message, str) or message[:1] in _BEGINS_JSON:
            return super().format(record)  # which may read it
        log = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": message,
            "timestamp": self._timestamp(record),
        }
        is_simple = True
        for name, value in vars(record).items():
            if value is not None and name not in _STANDARD_FIELDS:
                log[name] = value
                if type(value) not in _SIMPLE_TYPES:
                    is_simple = is_simple and type(value) is float and math.isfinite(value)
        if trace_id := self._trace_id(log.get("function_request_id")):
            log["xray_trace_id"] = trace_id
        if is_simple and _fast_dumps is not None:
            try:
                return _fast_dumps(log).decode()
            except TypeError:  # a number of more than 64 bits, half a character
                pass
        return self._encode(log)

    def _trace_id(self, request_id: Any) -> str | None:
        """Return the trace of the invocation, which is there before its first line."""
        known_of, trace_id = self._trace
        if request_id is None or request_id != known_of:
            variable = os.environ.get(TRACE_VARIABLE)
            trace_id = variable and variable.split(";")[0].replace("Root=", "")
            self._trace = request_id, trace_id
        return trace_id

    def _timestamp(self, record: logging.LogRecord) -> str:
        second, before, after = self._second
        if second != int(record.created):
            second = int(record.created)
            moment = time.localtime(second)
            before, after = time.strftime("%Y-%m-%d %H:%M:%S", moment), time.strftime("%z", moment)
            self._second = second, before, after
        return f"{before},{int(record.msecs):03}{after}"

    def serialize(self, log: Any) -> str:
        """Return *log* as JSON."""
        log.pop("data", None)
        return str(super().serialize(log))


class LineHandler(logging.StreamHandler[Any]):
    """Writes each line at once, for the process may be killed at any moment.

    A line that can be written without waiting is written without giving the interpreter up. Else
    each line of a task, and there are two at least, would be a moment for another thread.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._descriptor: int | None = None
        with suppress(OSError, AttributeError, ValueError):  # no file, as in tests
            self._descriptor = stream.fileno()

    def setStream(self, stream: Any) -> Any:  # noqa: N802 - logging's
        """Write to *stream*, by its own methods."""
        self._descriptor = None
        return super().setStream(stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*."""
        try:
            line = self.format(record) + self.terminator
            self.stream.flush()  # what somebody has printed comes first
            if self._descriptor is not None:
                data = line.encode(errors="backslashreplace")
                if write_holding_interpreter(self._descriptor, data):
                    return
            self.stream.write(line)
            self.stream.flush()
        except RecursionError:  # as in logging
            raise
        except Exception:  # noqa: BLE001 - as in logging
            self.handleError(record)


def set_up_logging(app: Celery, settings: Settings | None, fields: TaskFields) -> None:
    """Configure logging as a worker does, signals included.

    A receiver of ``setup_logging`` has everything in its own hands; with
    ``worker_hijack_root_logger = False`` the root logger is left as it is.
    """
    level_name = os.environ.get("AWS_LAMBDA_LOG_LEVEL") or os.environ.get("LOG_LEVEL") or "INFO"
    level = logging.getLevelName(level_name.upper())
    level = level if isinstance(level, int) else logging.INFO
    log_format = settings.log_format if settings else Settings.log_format_of(app)
    is_text = log_format == "text"
    colorize = is_text and is_coloured(sys.stdout)
    about: dict[str, Any] = {
        "loglevel": level,
        "logfile": None,
        "format": app.conf.worker_log_format,
        "colorize": colorize,
    }
    if signals.setup_logging.send(sender=None, **about):
        return
    root = logging.getLogger()
    task_logger = get_logger("celery.task")
    if app.conf.worker_hijack_root_logger:
        # To hold the lines of tasks that have succeeded until the next line would save a seventh
        # of what a line costs at most.
        handler = LineHandler(sys.stdout)
        handler.setFormatter(
            ColorFormatter(app.conf.worker_log_format, colorize) if is_text else Formatter()
        )
        handler.addFilter(fields)
        if is_text:
            handler.addFilter(_tells_something_new)
        root.handlers = [handler]
        root.setLevel(level)
        # It tells at INFO, once a client, where it found credentials.
        logging.getLogger("botocore").setLevel(max(level, logging.WARNING))
    signals.after_setup_logger.send(sender=None, logger=root, **about)
    if is_text:
        of_task = logging.StreamHandler(sys.stdout)
        of_task.setFormatter(TaskFormatter(app.conf.worker_task_log_format, colorize))
        task_logger.handlers = [of_task]
        task_logger.propagate = False
    signals.after_setup_task_logger.send(
        sender=None, logger=task_logger, **{**about, "format": app.conf.worker_task_log_format}
    )
