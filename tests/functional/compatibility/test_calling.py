"""Calls, as https://docs.celeryq.dev/en/stable/userguide/calling.html describes them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from celery.exceptions import TaskRevokedError

WAIT_SECONDS = 120


def fields(peer, **options):
    """Call the task that returns its request's fields."""
    return peer.request_fields.apply_async(**options).get(timeout=WAIT_SECONDS)


def test_delay(peer):
    assert peer.add.delay(1, y=2).get(timeout=WAIT_SECONDS) == 3


def test_apply_async_with_arguments(peer):
    assert peer.add.apply_async((1,), {"y": 2}).get(timeout=WAIT_SECONDS) == 3


def test_arguments_may_have_any_names(lambda_peer):
    """On a worker, the task with an argument ``self`` fails."""
    names = ["args", "body", "cls", "function", "hard_seconds", "kwargs", "self", "soft_seconds"]
    kwargs = dict.fromkeys(names, 1)
    result = lambda_peer.app.send_task("proj.names_of", kwargs=kwargs, time_limit=60)

    assert result.get(timeout=WAIT_SECONDS) == names


def test_send_task_by_name(peer):
    result = peer.app.send_task("proj.add", (1, 2))

    assert result.get(timeout=WAIT_SECONDS) == 3


def test_calling_the_task_runs_it_here(peer):
    assert peer.add(1, 2) == 3


def test_task_always_eager_needs_neither_queue_nor_worker(peer):
    eager = peer.configured(task_always_eager=True, broker_url="sqs://nowhere.invalid")

    result = eager.request_fields.delay()

    assert result.get()["is_eager"] is True


def test_countdown(peer):
    before = peer.app.now()

    eta = fields(peer, countdown=1)["eta"]

    assert datetime.fromisoformat(eta) >= before + timedelta(seconds=1)


def test_eta(peer):
    eta = peer.app.now()

    assert fields(peer, eta=eta)["eta"] == eta.isoformat()


def test_expires_revokes_what_comes_too_late(peer):
    result = peer.add.apply_async((1, 2), expires=peer.app.now())

    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=WAIT_SECONDS)
    assert result.state == "REVOKED"


def test_expires_lets_what_is_in_time_run(peer):
    assert fields(peer, expires=600)["expires"] is not None


def test_task_id(peer):
    result = peer.add.apply_async((1, 2), task_id=f"order-{peer.name}")

    assert result.id == f"order-{peer.name}"
    assert result.get(timeout=WAIT_SECONDS) == 3


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"shadow": "nightly"}, "shadow", "nightly"),
        ({"argsrepr": "<secret>"}, "argsrepr", "<secret>"),
        ({"kwargsrepr": "<secret>"}, "kwargsrepr", "<secret>"),
        ({"time_limit": 60, "soft_time_limit": 50}, "timelimit", [60, 50]),
        ({"priority": 0}, "priority", 0),
        ({"retries": 2}, "retries", 2),
    ],
)
def test_an_option_of_the_call_reaches_the_request(peer, options, field, value):
    assert fields(peer, **options)[field] == value


def test_headers_reach_the_request(peer):
    headers = fields(peer, headers={"x-order": "7"})["headers"]

    assert headers["x-order"] == "7"


def test_ignore_result_in_the_call_stores_nothing(peer, trace):
    result = peer.write.apply_async((trace.key, "ran"), ignore_result=True)
    after = peer.write.delay(trace.key, "after")

    assert sorted(trace.take(2)) == ["after", "ran"]
    after.get(timeout=WAIT_SECONDS)
    assert peer.result(result.id).state == "PENDING"


def test_link_and_link_error_in_the_call(peer, trace):
    peer.add.apply_async((1, 2), link=peer.write_result.s(trace.key))
    assert trace.next() == 3

    peer.fail.apply_async(
        link=peer.write_result.s(trace.key), link_error=peer.errback_new_style.s(key=trace.key)
    )
    assert trace.next()[0] == "new"
    assert trace.rest() == []


def test_several_links(peer, trace):
    links = [peer.write_result.s(trace.key), peer.add.s(10) | peer.write_result.s(trace.key)]

    peer.add.apply_async((1, 2), link=links)

    assert sorted(trace.take(2)) == [3, 13]


def test_a_frozen_signature_has_its_id_before_it_is_sent(peer):
    signature = peer.add.s(1, 2)
    frozen = signature.freeze()

    assert signature.apply_async().id == frozen.id
    assert frozen.get(timeout=WAIT_SECONDS) == 3


def test_apply_async_on_a_signature_adds_arguments_and_options(peer):
    signature = peer.add.signature((2,), {"y": 1}, shadow="sum")

    assert signature.apply_async((), {"y": 5}).get(timeout=WAIT_SECONDS) == 7
    assert peer.add.s(5).apply_async((1,)).get(timeout=WAIT_SECONDS) == 6


def test_a_signature_travels_as_json(peer):
    found = peer.app.signature(dict(peer.add.s(1, 2)))

    assert found.delay().get(timeout=WAIT_SECONDS) == 3


def test_typing_refuses_wrong_arguments_before_they_are_sent(peer):
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        peer.add.delay()


def test_typing_false_leaves_wrong_arguments_to_the_run(peer):
    result = peer.untyped.delay()

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        result.get(timeout=WAIT_SECONDS)


def test_the_same_task_id_and_arguments_again_is_another_call(peer, trace):
    for _ in range(2):
        peer.write.apply_async((trace.key, "ran"), task_id=trace.key)

    assert trace.take(2) == ["ran", "ran"]
