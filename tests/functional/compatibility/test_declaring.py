"""Tasks, as https://docs.celeryq.dev/en/stable/userguide/tasks.html describes them."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from celery import group, signals
from celery.exceptions import Reject, SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

WAIT_SECONDS = 120


class TestRequest:
    def test_of_a_plain_call(self, peer):
        result = peer.request_fields.delay()

        fields = result.get(timeout=WAIT_SECONDS)
        assert fields["id"] == fields["root_id"] == fields["correlation_id"] == result.id
        assert fields["task"] == "proj.request_fields"
        assert (fields["args"], fields["kwargs"], fields["retries"]) == ([], {}, 0)
        for name in ("parent_id", "group", "eta", "expires", "shadow"):
            assert fields[name] is None, name
        for name in ("is_eager", "called_directly", "redelivered"):
            assert fields[name] is False, name
        assert fields["timelimit"] == [None, None]
        assert fields["lang"] == "py"
        assert fields["origin"].startswith("gen")
        assert fields["hostname"].startswith("lambda@" if peer.name == "lambda" else "celery@")

    def test_of_a_member_of_a_group(self, peer):
        result = group(peer.request_fields.s(), peer.add.s(1, 1)).delay()

        fields, _ = result.get(timeout=WAIT_SECONDS)
        assert fields["group"] == result.id


class TestClasses:
    @pytest.mark.parametrize(
        ("how", "hooks"),
        [
            ("succeed", ["on_success done", "after_return SUCCESS"]),
            ("fail", ["on_failure bug", "after_return FAILURE"]),
        ],
    )
    def test_base_has_its_hooks_and_its_call(self, peer, trace, how, hooks):
        peer.hooked.delay(trace.key, how)

        assert trace.take(5) == ["before_start", "__call__", "body", *hooks]

    def test_base_hears_of_a_retry(self, peer, trace):
        peer.hooked.delay(trace.key, "retry")

        before = ["before_start", "__call__", "body"]
        after = ["on_success done", "after_return SUCCESS"]
        assert trace.take(9) == [*before, "on_retry 0", *before, *after]

    def test_task_cls_of_the_app_overrides_apply_async(self, peer):
        fields = peer.request_fields.delay().get(timeout=WAIT_SECONDS)

        assert fields["headers"]["x-tenant"] == "acme"

    def test_task_annotations_set_attributes(self, peer):
        assert peer.configured_task.delay().get(timeout=WAIT_SECONDS) == [5, False]

    def test_pydantic_converts_arguments_and_result(self, peer):
        result = peer.order.delay({"number": 1})

        assert result.get(timeout=WAIT_SECONDS) == {"number": 2, "item": "BOOK"}

    def test_throws_is_a_failure_like_any(self, peer):
        with pytest.raises(KeyError, match="expected"):
            peer.throw.delay().get(timeout=WAIT_SECONDS)

    def test_acks_late(self, peer):
        assert peer.late.delay().get(timeout=WAIT_SECONDS) is True


class TestTimeLimits:
    def test_soft_limit_can_be_caught(self, peer):
        assert peer.soft_limit.delay(True).get(timeout=WAIT_SECONDS) == "cleaned up"

    def test_soft_limit_that_is_not_caught_is_a_failure(self, peer):
        with pytest.raises(SoftTimeLimitExceeded):
            peer.soft_limit.delay(False).get(timeout=WAIT_SECONDS)

    def test_soft_limit_of_the_call(self, peer):
        with pytest.raises(SoftTimeLimitExceeded):
            peer.hang.apply_async(soft_time_limit=1).get(timeout=WAIT_SECONDS)

    def test_hard_limit(self, peer):
        with pytest.raises(TimeLimitExceeded):
            peer.hard_limit.delay().get(timeout=WAIT_SECONDS)


class TestExit:
    def test_of_the_interpreter_is_the_tasks_failure(self, lambda_peer):
        """On a worker the process ends, and the message with it."""
        with pytest.raises(WorkerLostError, match="SystemExit"):
            lambda_peer.exits.delay().get(timeout=WAIT_SECONDS)


class TestSignals:
    @pytest.mark.parametrize(
        ("how", "heard"),
        [
            ("succeed", ["task_received", "task_prerun", "task_success", "task_postrun"]),
            ("fail", ["task_received", "task_prerun", "task_failure", "task_postrun"]),
        ],
    )
    def test_of_a_run(self, peer, trace, how, heard):
        result = peer.heard.delay(how)

        assert trace.of(result.id).take(4) == heard

    def test_of_a_retry(self, peer, trace):
        result = peer.heard.delay("retry")

        heard = trace.of(result.id).take(8)
        assert heard.count("task_retry") == heard.count("task_success") == 1
        assert heard.count("task_prerun") == heard.count("task_postrun") == 2

    def test_of_a_task_that_has_expired(self, peer, trace):
        result = peer.heard.apply_async(("succeed",), expires=peer.app.now())

        assert trace.of(result.id).next() == "task_revoked"

    def test_before_task_publish_may_change_headers(self, peer):
        def add_header(headers, **kwargs):
            headers["x-request"] = "42"

        with connected(signals.before_task_publish, add_header, "proj.request_fields"):
            result = peer.request_fields.delay()

        assert result.get(timeout=WAIT_SECONDS)["headers"]["x-request"] == "42"

    def test_after_task_publish_is_sent(self, peer):
        seen = []

        def note(headers, **kwargs):
            seen.append(headers["id"])

        with connected(signals.after_task_publish, note, "proj.add"):
            result = peer.add.delay(1, 2)

        assert seen == [result.id]


class TestReject:
    def test_without_requeue_is_a_failure_and_parked(self, lambda_peer, dead_letter, trace):
        """On a worker kombu leaves the message on a queue that has a dead-letter queue."""
        result = lambda_peer.rejects.delay(trace.key)

        with pytest.raises(Reject, match="no"):
            result.get(timeout=WAIT_SECONDS)
        assert trace.rest() == ["ran"]
        assert dead_letter(result.id) == "rejected"

    def test_with_requeue_comes_back(self, lambda_peer, trace):
        """On a worker it does too, but nothing tells the task."""
        result = lambda_peer.rejects_once.delay(trace.key)

        assert result.get(timeout=WAIT_SECONDS) == "done"
        assert trace.take(2) == [False, True]


@contextmanager
def connected(signal, receiver, sender):
    signal.connect(receiver, sender=sender, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)
