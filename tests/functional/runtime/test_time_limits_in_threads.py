"""Time limits of tasks where the handler is not called on the main thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.result import AsyncResult

from lambda_celery.failures.record import EXCEPTION_ATTRIBUTE


@pytest.fixture
def deliver(runtime) -> Any:
    """Deliver a message to the handler on a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda: thread.submit(runtime.deliver).result()


def compute_for_ever() -> None:
    while True:
        pass


def test_the_soft_limit_of_a_call_can_be_caught_and_the_task_succeeds(runtime, deliver):
    @runtime.task
    def render():
        try:
            compute_for_ever()
        except SoftTimeLimitExceeded as exc:
            return f"stopped after {exc.args[0]} s"

    result = render.apply_async(soft_time_limit=0.1)

    assert deliver().all_deleted
    assert AsyncResult(result.id, app=runtime.app).result == "stopped after 0.1 s"


def test_the_soft_limit_of_a_task_brings_it_back(runtime, deliver):
    @runtime.task(soft_time_limit=0.1)
    def render():
        compute_for_ever()

    result = render.delay()

    assert deliver().all_returned
    assert AsyncResult(result.id, app=runtime.app).state == "RETRY"


def test_the_hard_limit_of_a_task_is_not_caught_by_it(runtime, deliver):
    @runtime.task(time_limit=0.1, max_retries=0)
    def render():
        try:
            compute_for_ever()
        except Exception:
            return "caught"

    result = render.delay()

    assert deliver().all_deleted
    (dead,) = runtime.stack.dead_letters()
    named = dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
    assert named.startswith(TimeLimitExceeded.__name__)
    assert AsyncResult(result.id, app=runtime.app).state == "FAILURE"


def test_the_next_task_on_the_thread_has_its_own_time(runtime, deliver):
    @runtime.task(soft_time_limit=0.1, max_retries=0)
    def render(endless):
        if endless:
            compute_for_ever()
        return "done"

    first, second = render.delay(True), render.delay(False)
    deliver()
    deliver()

    states = {each.id: AsyncResult(each.id, app=runtime.app).state for each in (first, second)}
    assert states == {first.id: "FAILURE", second.id: "SUCCESS"}
