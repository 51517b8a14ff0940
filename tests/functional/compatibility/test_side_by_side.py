"""Our runtime and workers on the same queues: what a gradual migration and a way back rest on."""

from __future__ import annotations

from collections import Counter

from celery import chain

WAIT_SECONDS = 120


def test_a_stock_worker_runs_what_we_publish(lambda_peer, worker_peer, shared_stack):
    ours = lambda_peer.moved_to(shared_stack)

    assert ours.add.apply_async((40,), {"y": 2}).get(timeout=WAIT_SECONDS) == 42
    assert ours.add.apply_async((1, 2), compression="zlib").get(timeout=WAIT_SECONDS) == 3
    assert ours.add.apply_async((3, 4), countdown=1).get(timeout=WAIT_SECONDS) == 7
    fields = chain(ours.add.s(5, 5), ours.request_fields.si()).delay().get(timeout=WAIT_SECONDS)
    # The worker published this step, and ran it too.
    assert fields["hostname"].startswith("celery@")


def test_our_runtime_runs_what_stock_celery_publishes(lambda_peer, worker_peer, lambda_stack):
    stock = worker_peer.moved_to(lambda_stack)

    assert stock.add.apply_async((40,), {"y": 2}).get(timeout=WAIT_SECONDS) == 42
    assert stock.add.apply_async((1, 2), compression="zlib").get(timeout=WAIT_SECONDS) == 3
    assert stock.add.apply_async((3, 4), countdown=1).get(timeout=WAIT_SECONDS) == 7
    fields = chain(stock.add.s(5, 5), stock.request_fields.si()).delay().get(timeout=WAIT_SECONDS)
    assert fields["hostname"].startswith("lambda@")


def test_both_on_one_queue_run_each_message_once(lambda_peer, worker_peer, shared_mapping, trace):
    """200 messages, half of them published by each."""
    for n in range(0, 200, 2):
        lambda_peer.meet.apply_async((trace.key, n), queue="both")
        worker_peer.meet.apply_async((trace.key, n + 1), queue="both")
    ran = trace.take(200)
    shared_mapping.wait_until_idle(WAIT_SECONDS)

    assert sorted(n for _, n in ran) == list(range(200))
    assert set(Counter(where for where, _ in ran)) == {"lambda", "worker"}
    assert trace.rest() == []


def test_a_worker_with_our_transport_takes_bodies_from_s3_beside_our_runtime(
    lambda_peer, stack, running, running_worker, trace
):
    peer = lambda_peer.moved_to(
        stack,
        broker_transport="lambda_celery.transport:Transport",
        lambda_payload_bucket=stack.settings.payload_bucket,
        lambda_payload_threshold_bytes=100_000,
    )
    sizes = range(100_000, 100_020)
    for size in sizes:
        peer.meet.delay(trace.key, "x" * size)
    assert objects(stack) == 20

    with running_worker(peer), running(peer, stack):
        ran = trace.take(20)

    # Both have ended, and settled before that what they had begun.
    assert objects(stack) == 0
    assert sorted(size for _, size in ran) == list(sizes)
    assert {where for where, _ in ran} == {"lambda", "worker"}
    assert trace.rest() == []


def objects(stack):
    return stack.s3.list_objects_v2(Bucket=stack.settings.payload_bucket)["KeyCount"]
