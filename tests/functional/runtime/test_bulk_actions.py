"""Bulk actions on failed tasks, worked off by the function."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lambda_celery.celery_hooks.apps import WORK_OFF
from lambda_celery.exceptions import (
    ConfigurationError,
    FailedTaskError,
    PublishError,
)
from lambda_celery.failures import (
    BulkAction,
    BulkActions,
    FailedTasks,
    Failures,
    Selection,
    dead_letters,
    slices,
)

FAST = 10_000.0


class Shop:
    """Tasks that fail until they are mended, and the function that runs them."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.is_mended = False
        self.ran: list[str] = []

        @runtime.task(name="shop.send")
        def send(to: str) -> None:
            self.ran.append(to)
            if not self.is_mended:
                raise ValueError(to)

        @runtime.task(name="shop.charge")
        def charge() -> None:
            raise ConnectionError("refused")

        self.send, self.charge = send, charge
        self.actions = BulkActions(runtime.app)

    def fail(self, *calls: str) -> list[str]:
        ids = [self.send.delay(to).id for to in calls]
        self.runtime.deliver(len(calls))
        self.ran.clear()
        return ids

    def begin(self, name: str = "mend", verb: str = "retry", **options: Any) -> BulkAction:
        return self.actions.begin(name, verb, **{"per_second": FAST, **options})

    def slice(self, *, seconds: float = 60) -> Any:
        """Deliver the one message of the action's, however many others there are."""
        messages = self.runtime.receive(1)
        while self.runtime.envelope(messages[0])["headers"]["task"] != WORK_OFF:
            messages = self.runtime.receive(1)
        return self.runtime.hand_over(messages, seconds=seconds)

    def run(self) -> None:
        """Deliver all that is on the queue, and what comes of it."""
        while depth := self.runtime.stack.depth():
            self.runtime.deliver(depth)

    @property
    def listed(self) -> list[str]:
        return [each.task_id for each in FailedTasks(self.runtime.app).select()]

    @property
    def parked(self) -> int:
        return int(self.runtime.stack.depth(self.runtime.stack.dead_letter_queue_url))


@pytest.fixture
def shop(make_runtime: Any) -> Shop:
    return Shop(make_runtime(lambda_max_receive_count=1))


class TestWorkingOff:
    def test_a_retry_of_all_that_match(self, shop):
        shop.fail("ann", "bob", "cyd")
        charge = shop.charge.delay().id
        shop.runtime.deliver()
        shop.is_mended = True

        begun = shop.begin(selection=Selection(task="*.send"), begun_by="eve")
        assert (begun.state, begun.counted, begun.begun_by) == ("running", 3, "eve")
        shop.run()

        assert sorted(shop.ran) == ["ann", "bob", "cyd"]
        assert shop.listed == [charge]
        assert shop.parked == 1
        ended = shop.actions.get("mend")
        assert (ended.state, ended.done, ended.refused, ended.left) == ("done", 3, 0, 0)

    def test_what_fails_again_meanwhile_is_left(self, shop):
        ids = shop.fail("ann", "bob")
        shop.begin()
        shop.run()

        assert sorted(shop.ran) == ["ann", "bob"]
        assert sorted(shop.listed) == sorted(ids)
        assert shop.actions.get("mend").done == 2

    def test_new_calls(self, shop):
        ids = shop.fail("ann", "bob")
        shop.is_mended = True
        shop.begin(verb="send_again")
        shop.slice()

        messages = shop.runtime.receive(2)
        new = {shop.runtime.envelope(each)["headers"]["id"] for each in messages}
        assert not new & set(ids)
        shop.runtime.hand_over(messages)
        assert sorted(shop.ran) == ["ann", "bob"]
        assert (shop.listed, shop.parked) == ([], 0)

    def test_a_discard(self, shop):
        shop.fail("ann", "bob")
        shop.begin(verb="discard")
        shop.run()
        assert (shop.listed, shop.parked, shop.ran) == ([], 0, [])
        assert shop.actions.get("mend").done == 2

    def test_many_in_several_slices_page_by_page(self, shop, monkeypatch):
        monkeypatch.setattr(slices, "_SLICE_SECONDS", 0.3)
        monkeypatch.setattr(slices, "_PAGE_ROWS", 10)
        monkeypatch.setattr(dead_letters, "_WAIT_SECONDS", 0)
        records = Failures(shop.runtime.settings)
        shop.fail("ann")
        (whole,) = (records.get(each.id) for each in records.all())
        began = datetime.now(UTC) - timedelta(hours=1)
        for n in range(99):
            at = began + timedelta(milliseconds=n // 3)  # some at the same moment
            copy = replace(whole, id=f"failure#{n:04}", task_id=f"task-{n}", failed_at=at)
            records.put(copy, 3600)

        shop.begin(verb="discard")
        slices_run = 0
        while shop.actions.get("mend").is_running:
            assert shop.runtime.deliver().all_deleted
            slices_run += 1

        ended = shop.actions.get("mend")
        assert (ended.counted, ended.done, ended.refused) == (100, 100, 0)
        assert slices_run > 1
        assert (shop.listed, shop.parked) == ([], 0)

    def test_a_slow_rate_has_the_next_slice_come_later(self, shop):
        shop.fail("ann", "bob")
        shop.begin(per_second=0.01)
        shop.slice()

        assert shop.actions.get("mend").done == 1
        assert shop.runtime.stack.depth() == 2
        messages = shop.runtime.receive(1)
        assert shop.runtime.envelope(messages[0])["headers"]["task"] == "shop.send"
        assert shop.runtime.stack.messages() == []  # it is delayed

    def test_another_queue_is_given_to_each(self, shop, make_stack):
        shop.fail("ann")
        other = make_stack()
        shop.begin(to_queue=other.queue_url)
        shop.slice()
        assert (other.depth(), shop.parked) == (1, 0)

    def test_a_fifo_queue_gets_them_in_their_order(self, make_stack, make_runtime):
        """Its dead-letter queue hands out ten of a group, and no more while any is hidden."""
        stack = make_stack(".fifo")
        names = ("queue_url", "dead_letter_queue_url", "idempotency_table")
        fifo = {f"lambda_{name}": getattr(stack.settings, name) for name in names}
        shop = Shop(make_runtime(lambda_max_receive_count=1, **fifo))
        called = [f"{n:02}" for n in range(24)]
        for to in called:
            shop.send.delay(to)
            shop.runtime.deliver()
        shop.ran.clear()
        shop.is_mended = True

        shop.begin()
        messages = shop.runtime.receive()
        groups = {each["Attributes"]["MessageGroupId"] for each in messages}
        assert groups == {"lambda_celery-mend"}  # nothing of the app's waits behind it
        shop.runtime.hand_over(messages)
        for _ in called:
            shop.runtime.deliver()

        ended = shop.actions.get("mend")
        assert (ended.state, ended.done, ended.left) == ("done", 24, 0)
        assert shop.ran == called


class TestDying:
    @pytest.mark.parametrize("verb", ["retry", "send_again", "discard"])
    @pytest.mark.parametrize("after", [False, True])
    def test_each_is_acted_on_once(self, shop, monkeypatch, verb, after):
        """Within the second: after it was published or deleted, and before that is noted; or after.

        How far the action is was not written down then.
        """
        shop.fail("ann", "bob", "cyd")
        shop.is_mended = True
        turn = shop.begin(verb=verb).turn
        calls: list[Any] = []
        noting = "mark_retried" if verb == "retry" else "forget"
        note = getattr(Failures, noting)

        def dies(*args: Any) -> Any:
            calls.append(args)
            if len(calls) < 2:
                return note(*args)
            if after:
                note(*args)
            raise _Killed

        with monkeypatch.context() as patch, pytest.raises(_Killed):
            patch.setattr(slices, "_TOGETHER", 1)
            patch.setattr(Failures, noting, dies)
            slices.work_off(shop.runtime.app, "mend", turn)
        assert len(shop.listed) == (1 if after else 2)
        assert shop.actions.get("mend").done == 0

        assert shop.slice().all_deleted  # the message of the one that died comes back
        shop.run()
        assert sorted(shop.ran) == ([] if verb == "discard" else ["ann", "bob", "cyd"])
        assert shop.listed == []
        assert shop.actions.get("mend").state == "done"

    @pytest.mark.parametrize("verb", ["retry", "send_again"])
    def test_no_dead_letter_is_left_of_what_was_sent(self, shop, monkeypatch, verb):
        """It would be listed again, and, once sent back, run what a new call has done."""
        shop.fail("ann")
        shop.is_mended = True
        turn = shop.begin(verb=verb).turn
        with monkeypatch.context() as patch, pytest.raises(_Killed):
            patch.setattr(dead_letters.DeadLetters, "delete", _die)
            slices.work_off(shop.runtime.app, "mend", turn)
        shop.slice()
        shop.run()
        assert (shop.ran, shop.listed, shop.parked) == (["ann"], [], 0)

    def test_between_passing_on_and_publishing(self, shop, monkeypatch):
        monkeypatch.setattr(slices, "_SLICE_SECONDS", 0.0)
        shop.fail("ann", "bob")
        shop.is_mended = True
        shop.begin()
        turn = shop.actions.get("mend").turn
        with monkeypatch.context() as patch, pytest.raises(_Killed):
            patch.setattr(BulkActions, "publish", _die)
            slices.work_off(shop.runtime.app, "mend", turn)
        assert shop.actions.get("mend").turn != turn

        shop.run()  # its message comes back
        assert sorted(shop.ran) == ["ann", "bob"]
        assert shop.actions.get("mend").done == 2

    def test_a_message_that_comes_twice_works_once(self, shop):
        shop.fail("ann")
        shop.is_mended = True
        shop.begin()
        (message,) = shop.runtime.receive()
        shop.runtime.hand_over([message])
        shop.runtime.send_copy(message)
        shop.run()
        assert shop.ran == ["ann"]


class TestEnding:
    def test_an_abort_is_seen_by_the_next_slice_and_resumed(self, shop):
        shop.fail("ann", "bob")
        shop.is_mended = True
        shop.begin()
        assert shop.actions.abort("mend").state == "aborted"
        shop.run()
        assert (shop.ran, len(shop.listed)) == ([], 2)
        with pytest.raises(FailedTaskError, match="is aborted already"):
            shop.actions.abort("mend")

        shop.actions.resume("mend")
        shop.run()
        assert sorted(shop.ran) == ["ann", "bob"]
        with pytest.raises(FailedTaskError, match="is done"):
            shop.actions.resume("mend")

    @pytest.mark.parametrize("how", ["abort", "resume"])
    def test_the_slice_at_work_leaves_off(self, shop, monkeypatch, how):
        monkeypatch.setattr(slices, "_NOTED_SECONDS", 0.0)
        monkeypatch.setattr(slices, "_TOGETHER", 1)
        shop.fail("ann", "bob", "cyd")
        retry = FailedTasks.retry

        def meanwhile(*args: Any) -> Any:
            if shop.actions.get("mend").turn == turn:
                getattr(shop.actions, how)("mend")
            return retry(*args)

        monkeypatch.setattr(FailedTasks, "retry", meanwhile)
        turn = shop.begin().turn
        slices.work_off(shop.runtime.app, "mend", turn)

        assert len(shop.listed) == 2
        assert shop.actions.get("mend").state == ("aborted" if how == "abort" else "running")

    def test_what_cannot_be_done_stops_no_others(self, shop):
        expired = shop.send.apply_async(("ann",), expires=datetime.now(UTC) + timedelta(seconds=2))
        shop.runtime.deliver()
        shop.fail("bob")
        shop.is_mended = True
        while datetime.now(UTC) < datetime.fromisoformat(expires_of(shop)):
            pass
        shop.begin()
        shop.run()

        ended = shop.actions.get("mend")
        assert (ended.state, ended.done, ended.refused) == ("done", 1, 1)
        assert f"shop.send {expired.id}: The task {expired.id} expired at" in ended.sentence
        assert shop.listed == [expired.id]

    def test_an_error_of_one_stops_no_others(self, shop, monkeypatch):
        ann, _ = shop.fail("ann", "bob")
        shop.is_mended = True
        retry = FailedTasks.retry

        def breaks(tasks: Any, failure: Any, *args: Any) -> Any:
            if failure.task_id == ann:
                raise KeyError("what nobody thought of")
            return retry(tasks, failure, *args)

        monkeypatch.setattr(FailedTasks, "retry", breaks)
        shop.begin()
        shop.run()

        ended = shop.actions.get("mend")
        assert (ended.state, ended.done, ended.refused) == ("done", 1, 1)
        assert "KeyError('what nobody thought of')" in ended.sentence
        assert (shop.listed, shop.ran) == ([ann], ["bob"])

    @pytest.mark.parametrize(
        ("service", "operation", "verb", "code"),
        [
            ("sqs", "SendMessage", "retry", "AccessDenied"),
            ("sqs", "ReceiveMessage", "discard", "AccessDenied"),
            ("dynamodb", "Query", "retry", "AccessDeniedException"),
            ("dynamodb", "Query", "retry", "ValidationException"),
        ],
    )
    def test_what_refuses_all_stops_it(self, shop, faults, service, operation, verb, code):
        shop.fail("ann", "bob")
        shop.is_mended = True
        shop.begin(verb=verb)
        mended = faults.fail(shop.runtime.settings, service, operation, code, status=400)
        assert shop.slice().all_deleted

        stopped = shop.actions.get("mend")
        assert (stopped.state, stopped.done, stopped.refused) == ("stopped", 0, 0)
        assert {"ValidationException": "has no index failures"}.get(
            code, f"AWS refused {service}:{operation}"
        ) in stopped.sentence
        mended()
        resumed = shop.actions.resume("mend")
        assert (resumed.sentence, resumed.worked_at > stopped.worked_at) == ("", True)
        shop.run()
        assert shop.actions.get("mend").done == 2

    def test_without_rights_on_the_dead_letter_queue_a_retry_leaves_them(self, shop, faults):
        shop.fail("ann")
        shop.is_mended = True
        shop.begin()
        faults.fail(shop.runtime.settings, "sqs", "ReceiveMessage", "AccessDenied", status=403)
        shop.run()

        ended = shop.actions.get("mend")
        assert (ended.state, ended.done, ended.left) == ("done", 1, 1)
        assert "AWS refused sqs:ReceiveMessage" in ended.sentence
        assert shop.parked == 1

    def test_a_table_throttled_after_the_publishing_has_the_slice_come_back(
        self, make_runtime, monkeypatch, faults
    ):
        shop = Shop(make_runtime(lambda_max_receive_count=1))
        shop.fail("ann")
        shop = Shop(make_runtime())  # with more receives
        shop.is_mended = True
        shop.begin()
        note = Failures.mark_retried

        def throttled(*args: Any) -> Any:
            mended = faults.fail(
                shop.runtime.settings, "dynamodb", "UpdateItem", "ThrottlingException", status=400
            )
            try:
                return note(*args)
            finally:
                mended()

        with monkeypatch.context() as patch:
            patch.setattr(Failures, "mark_retried", throttled)
            assert shop.slice().all_returned
        assert shop.actions.get("mend").is_running
        shop.run()
        assert (shop.ran, shop.listed, shop.parked) == (["ann"], [], 0)

    @pytest.mark.parametrize(
        ("service", "operation", "code"),
        [
            ("dynamodb", "Query", "ThrottlingException"),
            ("sqs", "ReceiveMessage", "RequestThrottled"),
        ],
    )
    def test_what_passes_has_the_slice_come_back(
        self, make_runtime, faults, service, operation, code
    ):
        shop = Shop(make_runtime(lambda_max_receive_count=1))
        shop.fail("ann")
        shop.runtime = make_runtime()  # with more receives
        shop = Shop(shop.runtime)
        shop.is_mended = True
        shop.begin()
        messages = shop.runtime.receive()
        mended = faults.fail(shop.runtime.settings, service, operation, code, status=400)
        assert shop.runtime.hand_over(messages).all_returned
        assert shop.actions.get("mend").is_running
        mended()
        shop.run()
        assert (shop.ran, shop.parked) == (["ann"], 0)


class TestBeginning:
    def test_what_cannot_be_meant(self, shop):
        for name in ("", "a b", "x" * 65):
            with pytest.raises(FailedTaskError, match="is no name of a bulk action"):
                shop.begin(name)
        with pytest.raises(FailedTaskError, match="is none of retry, send_again, discard"):
            shop.begin(verb="redrive")
        with pytest.raises(FailedTaskError, match="No failed task matches"):
            shop.begin()
        for rate in (0, 1e-9, float("inf"), float("nan")):
            with pytest.raises(FailedTaskError, match=r"from 0\.0003 to 100000 messages"):
                shop.begin(per_second=rate)
        with pytest.raises(FailedTaskError, match="goes to no queue"):
            shop.begin(verb="discard", to_queue="celery")
        with pytest.raises(FailedTaskError, match="has no Celery queue 'other'"):
            shop.begin(on_queue="other")
        with pytest.raises(FailedTaskError, match="named by ids"):
            shop.begin(selection=Selection(frozenset({"id"})))
        with pytest.raises(FailedTaskError, match="There is no bulk action mend"):
            shop.actions.get("mend")

    def test_a_name_is_taken_once(self, shop):
        shop.fail("ann")
        shop.begin()
        with pytest.raises(FailedTaskError, match="There is a bulk action mend already"):
            shop.begin()
        shop.begin("other", selection=Selection(exception="Value*"))
        assert [each.name for each in shop.actions.all()] == ["other", "mend"]
        assert len(shop.listed) == 1  # they are no failures

    def test_without_the_right_to_publish_it_is_there_and_stopped(self, shop, faults):
        shop.fail("ann")
        mended = faults.fail(
            shop.runtime.settings, "sqs", "SendMessage", "AccessDenied", status=403
        )
        with pytest.raises(PublishError, match="AWS refused sqs:SendMessage"):
            shop.begin()
        assert shop.actions.get("mend").state == "stopped"
        mended()
        assert shop.actions.resume("mend").is_running

    def test_where_no_task_goes_to_the_function(self, make_runtime):
        shop = Shop(make_runtime(lambda_enabled=False))
        with pytest.raises(ConfigurationError, match="lambda_enabled is off"):
            shop.begin()

    def test_where_tasks_run_in_the_caller(self, shop):
        shop.fail("ann")
        shop.runtime.app.conf.task_always_eager = True
        with pytest.raises(ConfigurationError, match="task_always_eager is on"):
            shop.begin()
        assert len(shop.listed) == 1


class _Killed(BaseException):
    """The process has ended here."""


def _die(*_: Any, **__: Any) -> Any:
    raise _Killed


def expires_of(shop: Shop) -> str:
    with FailedTasks(shop.runtime.app) as tasks:
        body = [tasks.get(each.id).body for each in tasks.select()][-1]
    assert body is not None
    return str(json.loads(base64.b64decode(body))["headers"]["expires"])
