"""Lanes of a batch on threads."""

from __future__ import annotations

import threading

import pytest
from celery import Celery

from lambda_celery import install
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.running.threads import Pool, lanes


@pytest.mark.parametrize("concurrency", [1, 2])
def test_the_error_of_one_lane_waits_for_the_others(concurrency):
    deliveries = [Delivery.from_record({"messageId": str(n)}) for n in range(4)]
    failed = threading.Event()
    through = []

    def run_lane(lane):
        (delivery,) = lane
        if delivery.message_id == "0":
            failed.set()
            raise RuntimeError("of one lane")
        assert failed.wait(10)
        through.append(delivery.message_id)

    def take_up(lane, way):
        run_lane(lane)
        way.end()

    app = Celery("proj", set_as_current=False)
    install(app)
    with pytest.raises(RuntimeError, match="of one lane"):
        Pool(app, concurrency, 1).run(lanes(deliveries), run_lane, take_up)
    assert sorted(through) == ["1", "2", "3"]
