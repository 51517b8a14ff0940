"""Lanes that are taken up, wait, and go on, over several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lambda_runtime.running.pipeline import Pipeline, Way

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30


def run(
    count: int, take_up: Callable[[int, Way], None], most_threads: int = 4
) -> tuple[Pipeline[int], list[BaseException]]:
    """Have *count* lanes go through, and return when all are."""
    errors: list[BaseException] = []
    pipeline: Pipeline[int] = Pipeline(range(count), take_up, most_threads, errors)
    with ThreadPoolExecutor(most_threads) as threads:
        pipeline.watch(lambda: threads.submit(pipeline.work))
    assert pipeline.is_over.is_set()
    return pipeline, errors


def test_lanes_that_wait_for_each_other_all_have_threads():
    together = threading.Barrier(8)

    def take_up(_lane: int, way: Way) -> None:
        together.wait(WAIT_SECONDS)
        way.end()

    run(16, take_up, 8)


def test_what_is_under_way_goes_before_what_is_not_taken_up():
    order: list[Any] = []

    def take_up(lane: int, way: Way) -> None:
        order.append(lane)

        def step() -> None:
            order.append(f"step of {lane}")
            way.end()

        way.later(step)

    run(3, take_up, 1)
    assert order == [0, "step of 0", 1, "step of 1", 2, "step of 2"]


@pytest.mark.parametrize("is_later", [False, True])
def test_an_error_ends_the_way_and_not_the_others(is_later):
    through: list[int] = []

    def fail() -> None:
        raise RuntimeError("of one lane")

    def take_up(lane: int, way: Way) -> None:
        if lane == 1 and is_later:
            way.later(fail)
        elif lane == 1:
            fail()
        else:
            through.append(lane)
            way.end()

    _, errors = run(4, take_up)
    assert [str(each) for each in errors] == ["of one lane"]
    assert sorted(through) == [0, 2, 3]


def test_a_way_that_ends_twice_ends_once():
    def take_up(_lane: int, way: Way) -> None:
        way.end()
        way.end()

    run(5, take_up)


def test_no_more_are_taken_up_than_threads_can_run():
    taken: list[int] = []
    ways: list[Way] = []
    four = threading.Event()

    def take_up(lane: int, way: Way) -> None:
        taken.append(lane)
        ways.append(way)
        if len(taken) == 4:
            four.set()

    def go_on() -> None:
        assert four.wait(WAIT_SECONDS)
        counts.append(len(taken))
        while len(ended) < 10:
            if ways:
                ended.append(1)
                ways.pop().end()

    counts: list[int] = []
    ended: list[int] = []
    going_on = threading.Thread(target=go_on)
    going_on.start()
    run(10, take_up)
    going_on.join()
    assert counts == [4]


def test_what_is_stopped_begins_nothing_more():
    begun: list[int] = []
    hangs = threading.Event()
    errors: list[BaseException] = []

    def take_up(lane: int, way: Way) -> None:
        begun.append(lane)
        pipeline.stop()
        way.later(lambda: begun.append(-1))
        assert hangs.wait(WAIT_SECONDS)
        way.end()

    pipeline: Pipeline[int] = Pipeline(range(5), take_up, 1, errors)
    with ThreadPoolExecutor(2) as threads:
        threads.submit(pipeline.watch, lambda: threads.submit(pipeline.work))
        assert pipeline.is_over.wait(WAIT_SECONDS)
        hangs.set()
    assert begun == [0]
