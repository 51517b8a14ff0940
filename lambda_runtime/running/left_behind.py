"""What the body of a task may leave behind in its process, to the harm of others."""

from __future__ import annotations

import logging
import os
import signal
import sys

logger = logging.getLogger(__name__)

_NO_ALARM = (0.0, 0.0)


class Tidied:
    """A context that ends a child which *what* in it has forked, and cancels an alarm of its."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._process_id = os.getpid()
        self._has_alarm = signal.getitimer(signal.ITIMER_REAL) != _NO_ALARM

    def __exit__(self, *_: object) -> None:
        end_if_forked(self._process_id, self._what)
        if not self._has_alarm and signal.getitimer(signal.ITIMER_REAL) != _NO_ALARM:
            signal.setitimer(signal.ITIMER_REAL, 0)
            logger.warning(
                "%s has left an alarm behind, which is cancelled: it would strike another task.",
                self._what,
            )


def end_if_forked(process_id: int, what: str) -> None:
    """End this process if it is a child of the process *process_id*, which called *what*.

    Else it would go on as its parent does: complete tasks, publish what follows them, and answer
    Lambda. ``multiprocessing`` ends its children itself.
    """
    if os.getpid() == process_id:
        return
    raised = sys.exc_info()[1]
    if isinstance(raised, SystemExit):  # as it would have ended
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(raised.code if isinstance(raised.code, int) else int(raised.code is not None))
    logger.error(
        "%s has forked, and its child came back from it: the child is ended here. End it with "
        "os._exit(), or use subprocess.",
        what,
    )
    os._exit(1)
