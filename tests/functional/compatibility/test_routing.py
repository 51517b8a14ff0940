"""Routing, as https://docs.celeryq.dev/en/stable/userguide/routing.html describes it."""

from __future__ import annotations

import re

import pytest

WAIT_SECONDS = 120


def queue_of(result):
    """Return the queue that the run came from, as the task sees it."""
    return result.get(timeout=WAIT_SECONDS)["routing_key"]


def by_function(name, args, kwargs, options, task=None, **kw):
    return {"queue": "other"} if name == "proj.request_fields" else None


class ByClass:
    def route_for_task(self, name, *args, **kwargs):
        return {"queue": "other"} if name == "proj.request_fields" else None

    def __call__(self, name, args, kwargs, options, task=None, **kw):
        return self.route_for_task(name)


def test_queue_in_the_call(peer):
    assert queue_of(peer.request_fields.apply_async(queue="other")) == "other"


def test_queue_of_a_signature(peer):
    assert queue_of(peer.request_fields.s().set(queue="other").delay()) == "other"


def test_queue_in_the_declaration(peer):
    assert queue_of(peer.on_other_queue.delay()) == "other"


def test_task_default_queue(peer):
    web = peer.configured(task_default_queue="other")

    assert queue_of(peer.request_fields.delay()) == "celery"
    assert queue_of(web.request_fields.delay()) == "other"


@pytest.mark.parametrize(
    "routes",
    [
        {"proj.request_fields": {"queue": "other"}},
        {"proj.request_fields": "other"},
        {"proj.request_*": {"queue": "other"}},
        {re.compile(r"proj\.(request|x)_fields"): {"queue": "other"}},
        ([("proj.add", {"queue": "celery"}), ("proj.*", {"queue": "other"})],),
        by_function,
        (ByClass(),),
    ],
    ids=["dict", "name", "glob", "regex", "list", "function", "class"],
)
def test_task_routes(peer, routes):
    web = peer.configured()
    web.app.conf.task_routes = routes

    assert queue_of(web.request_fields.delay()) == "other"
    assert web.add.delay(1, 2).get(timeout=WAIT_SECONDS) == 3


def test_a_chain_over_several_queues(peer):
    steps = peer.add.s(1, 2) | peer.request_fields.si().set(queue="other")

    assert queue_of(steps.delay()) == "other"


def test_a_retry_stays_on_its_queue(peer, trace):
    result = peer.retry_with.apply_async((trace.key, {"countdown": 0}), queue="other")
    result.get(timeout=WAIT_SECONDS)

    assert result.queue == "other"
