"""Several tasks at a time in one environment: ``lambda_concurrency``."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict

import pytest
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30


@pytest.fixture
def runtime(make_runtime):
    return make_runtime(lambda_concurrency=4, lambda_time_reserve_seconds=1)


def test_as_many_tasks_run_at_the_same_time_as_the_setting_says_and_no_more(runtime):
    together = threading.Barrier(4)
    running, most = set(), []

    @runtime.task(bind=True)
    def send(self, n):
        running.add(n)
        together.wait(WAIT_SECONDS)  # broken unless four of them come
        most.append(len(running))
        together.wait(WAIT_SECONDS)
        running.discard(n)
        together.wait(WAIT_SECONDS)

    for n in range(8):
        send.delay(n)
    assert runtime.deliver(8).all_deleted
    assert most == [4] * 8


def test_what_is_loaded_is_kept_from_the_garbage_collector_once_a_process(make_runtime):
    """A second time would keep what runs have left, for ever."""
    assert make_runtime().handler
    kept = gc.get_freeze_count()
    assert kept
    assert make_runtime().handler
    assert gc.get_freeze_count() <= kept  # less, where some of it has been freed


def test_by_default_tasks_run_one_by_one_on_the_main_thread(make_runtime):
    runtime = make_runtime()
    threads = []

    @runtime.task
    def send():
        threads.append(threading.current_thread())

    for _ in range(3):
        send.delay()
    assert runtime.deliver(3).all_deleted
    assert threads == [threading.main_thread()] * 3


def test_each_has_its_own_request_and_only_what_failed_is_returned(runtime):
    together = threading.Barrier(4)
    seen = {}

    @runtime.task(bind=True)
    def send(self, n):
        together.wait(WAIT_SECONDS)
        seen[n] = self.request.id
        if n % 2:
            raise ValueError("not yet")

    results = {n: send.delay(n) for n in range(8)}
    answer = runtime.deliver(8)

    assert seen == {n: result.id for n, result in results.items()}
    assert len(answer.failed) == 4
    assert {n for n, result in results.items() if result.state == "SUCCESS"} == {0, 2, 4, 6}
    assert {n for n, result in results.items() if result.state == "RETRY"} == {1, 3, 5, 7}


def test_the_first_runs_of_a_task_on_several_threads_are_guarded_once(runtime):
    """What wraps its body must not be wrapped itself: its limits would be set twice."""
    together = threading.Barrier(4)
    ran = []

    @runtime.task(soft_time_limit=WAIT_SECONDS)
    def send():
        together.wait(WAIT_SECONDS)
        ran.append(1)

    for _ in range(4):
        send.delay()
    assert runtime.deliver(4).all_deleted
    assert len(ran) == 4
    guarded = type(runtime.app.tasks[send.name]).__call__
    assert hasattr(guarded, "lambda_wrapped")
    assert not hasattr(guarded.__wrapped__, "lambda_wrapped")


def test_publishing_and_shared_tasks_belong_to_the_app_on_every_thread(runtime):
    together = threading.Barrier(4)
    apps = []

    @shared_task(name="tests.followed")
    def followed():
        apps.append(followed.app.main)

    @runtime.task
    def first():
        together.wait(WAIT_SECONDS)
        followed.delay()

    for _ in range(4):
        first.delay()
    assert runtime.deliver(4).all_deleted
    assert runtime.deliver(4).all_deleted
    assert apps == ["proj"] * 4


def test_a_soft_time_limit_is_raised_in_its_task_alone(runtime):
    others_are_through = threading.Event()
    caught = []

    @runtime.task
    def send(n):
        if n:
            return
        try:
            while not others_are_through.wait(0.01):  # short: what waits in C is not interrupted
                pass
        except SoftTimeLimitExceeded:
            caught.append(n)

    send.apply_async((0,), soft_time_limit=1)
    for n in range(1, 4):
        send.delay(n)
    assert runtime.deliver(4).all_deleted
    assert caught == [0]


def test_what_has_not_started_when_the_time_runs_short_comes_back(runtime):
    ran = []

    @runtime.task
    def send(n):
        ran.append(n)

    for n in range(8):
        send.delay(n)
    answer = runtime.deliver(8, seconds=0)
    assert sorted(answer.failed) == sorted(each["MessageId"] for each in answer.messages)
    assert ran == []


def test_a_message_group_keeps_its_order_while_others_run(make_runtime, make_stack):
    stack = make_stack(suffix=".fifo")
    runtime = make_runtime(lambda_queue_url=stack.queue_url, lambda_concurrency=4)
    together = threading.Barrier(2)
    ran = defaultdict(list)

    @runtime.task
    def send(group, n):
        together.wait(WAIT_SECONDS)
        if (group, n) == ("a", 1) and len(ran["a"]) == 1:
            raise ValueError("not yet")
        ran[group].append(n)

    for n in range(2):
        for group in ("a", "b"):
            send.apply_async((group, n), MessageGroupId=group)
    send.apply_async(("a", 2), MessageGroupId="a")
    messages = runtime.receive(5)
    answer = runtime.hand_over(messages)

    assert ran == {"a": [0], "b": [0, 1]}
    assert len(answer.failed) == 2
