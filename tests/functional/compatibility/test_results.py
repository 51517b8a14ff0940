"""Results in Redis, as the process that published sees them."""

from __future__ import annotations

import pytest
from celery import chord, group
from celery.result import AsyncResult, GroupResult

WAIT_SECONDS = 120


def test_success(peer):
    result = peer.add.delay(1, 2)

    assert result.get(timeout=WAIT_SECONDS) == 3
    assert (result.state, result.ready(), result.successful()) == ("SUCCESS", True, True)
    assert result.failed() is False
    assert result.traceback is None


def test_failure_has_the_exception_and_the_traceback(peer):
    result = peer.fail.delay("no such template")

    with pytest.raises(ValueError, match="no such template"):
        result.get(timeout=WAIT_SECONDS)
    assert (result.state, result.ready(), result.failed()) == ("FAILURE", True, True)
    assert isinstance(result.result, ValueError)
    assert "raise ValueError(message)" in result.traceback
    assert result.get(propagate=False) == result.result


def test_forget(peer):
    result = peer.add.delay(1, 2)
    result.get(timeout=WAIT_SECONDS)

    result.forget()

    assert peer.result(result.id).state == "PENDING"


def test_ignore_result_of_the_task(peer, trace):
    result = peer.forgettable.delay(trace.key)
    trace.next()
    # Its own state is what is asked for, so something else has to come after it.
    peer.add.delay(1, 2).get(timeout=WAIT_SECONDS)

    assert peer.result(result.id).state == "PENDING"


def test_track_started(peer, trace):
    result = peer.tracked.delay(trace.key)
    trace.next()

    assert result.state == "STARTED"
    assert result.info["hostname"].startswith("lambda@" if peer.name == "lambda" else "celery@")
    trace.go()
    assert result.get(timeout=WAIT_SECONDS) == "done"


def test_update_state(peer, trace):
    result = peer.reports_progress.delay(trace.key)
    trace.next()

    assert (result.state, result.info) == ("PROGRESS", {"done": 1, "of": 2})
    trace.go()
    assert result.get(timeout=WAIT_SECONDS) == "all"


def test_result_extended(peer):
    result = peer.add.apply_async((1,), {"y": 2})
    result.get(timeout=WAIT_SECONDS)

    assert (result.name, result.args, result.kwargs) == ("proj.add", [1], {"y": 2})
    assert (result.retries, result.queue) == (0, "celery")
    assert result.worker.startswith("lambda@" if peer.name == "lambda" else "celery@")
    assert result.date_done is not None


def test_retries_are_in_the_extended_result(peer, trace):
    result = peer.retry_with.delay(trace.key, {"countdown": 0})
    result.get(timeout=WAIT_SECONDS)

    assert result.retries == 1


def test_group_result_is_saved_and_restored(peer):
    result = group(peer.add.s(n, n) for n in range(3)).delay()
    result.save()

    restored = GroupResult.restore(result.id, app=peer.app)

    assert restored.join(timeout=WAIT_SECONDS) == [0, 2, 4]
    assert restored.join_native(timeout=WAIT_SECONDS) == [0, 2, 4]
    assert (restored.successful(), restored.completed_count(), restored.waiting()) == (
        True, 3, False,
    )  # fmt: skip
    restored.delete()
    assert GroupResult.restore(result.id, app=peer.app) is None


def test_iterating_over_a_group_result_gives_each_as_it_is_ready(peer):
    result = group(peer.add.s(n, n) for n in range(3)).delay()

    found = {task_id: meta["result"] for task_id, meta in result.iter_native(timeout=WAIT_SECONDS)}
    assert found == {each.id: 2 * n for n, each in enumerate(result.results)}


def test_callbacks_are_children(peer, trace):
    result = peer.add.apply_async((1, 2), link=peer.write_result.s(trace.key))
    trace.next()
    result.get(timeout=WAIT_SECONDS)

    (child,) = result.children
    assert child.get(timeout=WAIT_SECONDS) == 3
    collected = [value for _, value in peer.result(result.id).collect(timeout=WAIT_SECONDS)]
    assert collected == [3, 3]


def test_parents_and_graph_of_a_chain(peer):
    result = (peer.add.s(1, 1) | peer.add.s(1) | peer.add.s(1)).delay()
    result.get(timeout=WAIT_SECONDS)

    root = result.parent.parent
    assert root.parent is None
    assert [node.id for node in root.graph] == [root.id, result.parent.id, result.id]


def test_a_result_as_a_tuple_is_found_again(peer):
    result = peer.add.delay(1, 2)

    (task_id, _parent), _children = result.as_tuple()
    assert AsyncResult(task_id, app=peer.app).get(timeout=WAIT_SECONDS) == 3


def test_then_is_called_with_the_result(peer):
    seen = []
    result = peer.add.delay(1, 2)

    result.then(seen.append)
    result.get(timeout=WAIT_SECONDS)

    assert seen == [result]


def test_ignore_leaves_the_state_as_it_is(peer, trace):
    result = peer.ignores.delay(trace.key)
    trace.next()
    peer.add.delay(1, 2).get(timeout=WAIT_SECONDS)

    assert (result.state, result.info) == ("CUSTOM", {"left": "as it is"})


def test_waiting_for_a_result_in_a_task_is_refused(peer):
    with pytest.raises(RuntimeError, match=r"Never call result.get\(\) within a task"):
        peer.waits.delay().get(timeout=WAIT_SECONDS)


def test_results_in_files(lambda_peer, stack, running, tmp_path):
    (tmp_path / "results").mkdir()
    peer = lambda_peer.moved_to(stack, result_backend=f"file://{tmp_path}/results")

    with running(peer, stack):
        assert (peer.add.s(1, 2) | peer.add.s(3)).delay().get(timeout=WAIT_SECONDS) == 6
        with pytest.raises(ValueError, match="no such template"):
            peer.fail.delay().get(timeout=WAIT_SECONDS)


def test_results_in_dynamodb(lambda_peer, stack, running, results_table):
    """With a chord, and in a table that the back end neither makes nor describes."""
    peer = lambda_peer.moved_to(stack, result_backend=f"lambda-dynamodb:///{results_table}")

    with running(peer, stack):
        header = [peer.add.s(n, n) for n in range(5)]
        assert chord(header, peer.tsum.s())().get(timeout=WAIT_SECONDS) == 20
        with pytest.raises(ValueError, match="no such template"):
            peer.fail.delay().get(timeout=WAIT_SECONDS)
