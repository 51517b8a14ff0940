"""What the local runner is told beside the log: metrics, and lines that tell the end of a call."""

from __future__ import annotations

import logging
import os
from typing import TextIO

from lambda_celery.conf import FEED_VARIABLE
from lambda_runtime.log import Formatter, LineHandler, TaskFields

#: How the names of the loggers begin that tell of an end.
_TELL = ("lambda_runtime.", "celery.")


def opened() -> TextIO | None:
    """Return the stream to the local runner, where that runs the function."""
    told = os.environ.pop(FEED_VARIABLE, None)
    if told is None:
        return None
    descriptor = int(told)
    # A program that a task starts has another file there, or would keep the stream open.
    os.set_inheritable(descriptor, False)
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def tell_ends(feed: TextIO, fields: TaskFields) -> None:
    """Have the lines that tell the end of a call written to *feed*, too, whatever the log has."""
    handler = LineHandler(feed)
    handler.setFormatter(Formatter())
    handler.addFilter(fields)
    # A task's own line may have a field of that name.
    handler.addFilter(lambda record: hasattr(record, "end") and record.name.startswith(_TELL))
    logging.getLogger().addHandler(handler)
