"""Synchronous code on the event loop's thread that gives way to the loop while it waits.

What is called here runs in a greenlet of its own, with its own C stack and its own context
variables. Where greenlet is installed, Celery keeps its stacks for each greenlet, so that
each has its request as on a thread. The loop is hidden from it: what must not be called from a
coroutine, as Django's database methods, may be called here.
"""

from __future__ import annotations

from collections.abc import Callable

from lambda_celery.celery_hooks.running_loop import hidden_loop
from lambda_celery.celery_hooks.thread_state import has_stacks_for_greenlets

try:
    from greenlet import getcurrent, greenlet
except ImportError:
    ARE_USABLE = False
else:
    ARE_USABLE = has_stacks_for_greenlets()


def start(function: Callable[[], None]) -> None:
    """Call *function* on the loop's thread, to its end or to where it first gives way."""
    with hidden_loop():
        greenlet(function).switch()


def give_way(begin: Callable[[Callable[[], None]], None]) -> None:
    """Call *begin*, and let the loop go on until what it is given is called there."""
    this = getcurrent()

    def go_on() -> None:
        with hidden_loop():
            this.switch()

    begin(go_on)
    this.parent.switch()
