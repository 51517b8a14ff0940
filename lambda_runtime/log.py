"""Logging: Powertools' JSON lines, with the task under way in each of them.

Or, where ``lambda_log_format`` says so, the lines that a worker prints. The local runner sets it
on a terminal.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from celery import Celery, signals
from celery.app.log import TaskFormatter
from celery.app.trace import LOG_RETRY
from celery.utils.log import ColorFormatter, get_logger

from lambda_celery.celery_hooks.thread_state import current_task
from lambda_celery.conf import Settings
from lambda_celery.terminal import is_coloured
from lambda_runtime.messages.delivery import Delivery

_under_way: ContextVar[Delivery | None] = ContextVar("lambda_runtime_delivery", default=None)
_told: ContextVar[bool] = ContextVar("lambda_runtime_retry_told", default=False)


class TaskFields(logging.Filter):
    """Adds the invocation, and the message and task under way, to every log record."""

    def __init__(self) -> None:
        super().__init__()
        self.request_id: str | None = None

    @contextmanager
    def of(self, delivery: Delivery) -> Iterator[None]:
        """Add the fields of *delivery* to what is logged in the context."""
        token = _under_way.set(delivery)
        try:
            yield
        finally:
            _under_way.reset(token)

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; drop nothing."""
        if self.request_id is not None:
            record.function_request_id = self.request_id
        if (delivery := _under_way.get()) is not None:
            record.message_id = delivery.message_id
            record.receive_count = delivery.receive_count
            record.message_age_seconds = round(delivery.age_seconds, 3)
        task = current_task()
        if task is not None and task.request is not None:
            record.task_name = task.name
            record.task_id = task.request.id
            record.retries = task.request.retries
        return True


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
    """Powertools' JSON, without what Celery adds for custom handlers: the arguments are in it."""

    def serialize(self, log: Any) -> str:
        """Return *log* as JSON."""
        log.pop("data", None)
        return str(super().serialize(log))


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
        handler = logging.StreamHandler(sys.stdout)
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
