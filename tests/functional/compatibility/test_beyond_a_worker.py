"""What Celery documents and a worker on SQS does not do, or not for all workers together."""

from __future__ import annotations

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError

from lambda_celery import PublishError

WAIT_SECONDS = 120


class TestRevoke:
    def test_by_the_result_before_it_is_due(self, lambda_peer, trace):
        result = lambda_peer.heard.apply_async(("run",), countdown=3)
        result.revoke()

        with pytest.raises(TaskRevokedError):
            result.get(timeout=WAIT_SECONDS)
        heard = trace.of(result.id)
        assert heard.take(1) == ["task_revoked"]
        assert heard.rest() == []

    def test_by_stamped_headers(self, lambda_peer, trace):
        signature = lambda_peer.write.si(trace.key, "ran").set(countdown=3)
        signature.stamp(batch=trace.key)
        result = signature.delay()
        lambda_peer.app.control.revoke_by_stamped_headers({"batch": trace.key})

        with pytest.raises(TaskRevokedError):
            result.get(timeout=WAIT_SECONDS)
        assert trace.rest() == []


def test_rate_limit_holds_for_all_environments_and_loses_nothing(lambda_peer, lambda_stack, trace):
    for n in range(12):
        lambda_peer.limited.delay(trace.key, n)

    assert sorted(trace.take(12)) == list(range(12))
    table = lambda_stack.settings.idempotency_table
    key = {"id": {"S": "rate#proj.limited"}}
    assert "next" in lambda_stack.dynamodb.get_item(TableName=table, Key=key)["Item"]
    assert trace.rest() == []


def test_idempotency_key_runs_an_order_once_with_its_retry(lambda_peer, trace):
    first = lambda_peer.confirm.delay(trace.key, 1)
    first.get(timeout=WAIT_SECONDS)
    again = lambda_peer.confirm.delay(trace.key, 1)
    lambda_peer.confirm.delay(trace.key, 2).get(timeout=WAIT_SECONDS)

    assert trace.take(4) == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert trace.rest() == []
    assert again.state == "PENDING"


class TestPriority:
    def test_has_a_queue_that_the_retry_stays_on(self, lambda_peer, trace):
        web = lambda_peer.configured(lambda_priority_queues={"celery": {6: "other"}})
        web.urgent.apply_async((trace.key,), priority=5)
        assert trace.take(2) == ["celery", "celery"]
        web.urgent.apply_async((trace.key,), priority=6)
        assert trace.take(2) == ["other", "other"]

    def test_without_a_queue_is_refused(self, lambda_peer):
        with pytest.raises(PublishError, match="priority 6"):
            lambda_peer.add.apply_async((1, 2), priority=6)


def test_redacted_arguments_are_in_no_header(lambda_peer, trace):
    web = lambda_peer.configured(lambda_redact_arguments=True)
    fields = web.request_fields.delay(trace.key).get(timeout=WAIT_SECONDS)

    assert (fields["argsrepr"], fields["kwargsrepr"]) == ("<redacted>", "<redacted>")
    assert fields["args"] == [trace.key]


class TestFIFO:
    @pytest.fixture
    def stack(self, make_stack):
        return make_stack(suffix=".fifo")

    def test_keeps_the_order_within_a_group_whatever_fails(
        self, lambda_peer, stack, running, trace
    ):
        peer = lambda_peer.moved_to(stack)
        other = trace.of(f"{trace.key}-other")
        with running(peer, stack):
            for n in range(6):
                for group in (trace.key, other.key):
                    peer.in_order.apply_async((group, n), MessageGroupId=group)

            assert trace.take(6) == list(range(6))
            assert other.take(6) == list(range(6))

    def test_refuses_a_countdown(self, lambda_peer, stack):
        with pytest.raises(PublishError, match="FIFO"):
            lambda_peer.moved_to(stack).add.apply_async((1, 2), countdown=5)


def test_a_fair_queue_is_one_by_its_message_group(lambda_peer, stack, running):
    peer = lambda_peer.moved_to(stack)
    result = peer.add.apply_async((1, 2), MessageGroupId="acme")
    (message,) = stack.messages()
    assert message["Attributes"]["MessageGroupId"] == "acme"
    stack.sqs.change_message_visibility(
        QueueUrl=stack.queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
    )

    with running(peer, stack):
        assert result.get(timeout=WAIT_SECONDS) == 3


def test_time_limits_hold_on_threads(lambda_peer, stack, running):
    peer = lambda_peer.moved_to(stack, lambda_concurrency=3)
    results = [peer.loop.delay(), peer.loop.delay(), peer.add.delay(1, 2)]

    with running(peer, stack):
        assert results[2].get(timeout=WAIT_SECONDS) == 3
        for each in results[:2]:
            with pytest.raises(SoftTimeLimitExceeded):
                each.get(timeout=WAIT_SECONDS)


def test_a_queue_has_settings_of_its_own(lambda_peer, stack, running, trace):
    own = {"url": stack.queue_url, "max_receive_count": 2}
    web = lambda_peer.moved_to(stack)
    peer = web.configured(lambda_queues={"celery": own}, lambda_max_receive_count=9)
    result = peer.fail_undeclared.delay(trace.key)

    with running(peer, stack):
        with pytest.raises(ValueError, match="no such template"):
            result.get(timeout=WAIT_SECONDS)
        assert trace.take(2) == ["ran", "ran"]
    assert trace.rest() == []
    assert stack.depth(stack.dead_letter_queue_url) == 1
