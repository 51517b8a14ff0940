"""``celery -A proj lambda failed …``."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.signals import import_modules
from click.testing import CliRunner, Result

from lambda_celery.cli import lambda_command
from lambda_celery.failures import BulkActions, FailedTasks

PAGE = Path(__file__).parents[3] / "docs" / "operations" / "failed-tasks.md"
COMMANDS = re.findall(r"`celery -A proj lambda failed ([^`]+)`", PAGE.read_text())


class Failed:
    """The command, and tasks that fail until they are mended."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.is_mended = False
        self.ran: list[Any] = []

        @runtime.task(name="shop.send")
        def send(to: str) -> None:
            self.ran.append(to)
            if not self.is_mended:
                raise ValueError(f"451 {to}")

        @runtime.task(name="shop.charge")
        def charge(n: int) -> None:
            if not self.is_mended:
                raise ConnectionError("refused")

        self.send, self.charge = send, charge

    def __call__(self, *arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(
            lambda_command,
            ["failed", *arguments],
            input=answer,
            obj=SimpleNamespace(app=self.runtime.app),
        )

    def output(self, *arguments: str, answer: str | None = None) -> str:
        done = self(*arguments, answer=answer)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        done = self(*arguments)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    def ids(self, *arguments: str) -> set[str]:
        return {each["task_id"] for each in self.lines("list", "--json", *arguments)}

    def fail(self, *calls: str) -> list[str]:
        ids = [self.send.delay(to).id for to in calls]
        self.runtime.deliver(len(calls))
        self.ran.clear()
        return ids

    @property
    def parked(self) -> int:
        return int(self.runtime.stack.depth(self.runtime.stack.dead_letter_queue_url))


@pytest.fixture
def failed(make_runtime: Callable[..., Any]) -> Failed:
    return Failed(make_runtime(lambda_max_receive_count=1))


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Have the editor save a text."""

    def saves(text: str) -> None:
        script = tmp_path / "editor.py"
        script.write_text(f"import sys\nopen(sys.argv[1], 'w').write({text!r})\n")
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")

    return saves


@pytest.fixture
def imported_late(failed: Failed) -> Iterator[Callable[[str], None]]:
    """Take a task from the app until its modules are imported, as ``autodiscover_tasks`` does."""
    app, late = failed.runtime.app, []

    def register(**_: Any) -> None:
        for each in late:
            app.tasks.register(each)

    import_modules.connect(register, sender=app)
    yield lambda name: late.append(app.tasks.pop(name))
    import_modules.disconnect(register, sender=app)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_works(failed, command, editor, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (ann,) = failed.fail("ann")
    failed.is_mended = True
    editor('{"args": ["bob"], "kwargs": {}}')
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: failed.runtime.deliver())
    monkeypatch.setattr("lambda_celery.cli.failed_wait.time", clock)

    if "NAME" in command:
        BulkActions(failed.runtime.app).begin("mend", "retry")
        if "--wait" in command:
            failed.runtime.deliver()
    names = {"ID": ann, "NAME": "mend"}
    arguments = [names.get(each, each) for each in shlex.split(command)]
    output = failed.output(*arguments, answer="y\n")
    assert "No failed task matches." not in output


class TestLooking:
    def test_nothing_has_failed(self, failed):
        assert failed.output("list") == "No failed task matches."
        assert failed.output("count") == "No failed task matches."
        assert failed.output("retry", "--yes") == "No failed task matches."

    def test_list(self, failed):
        (failed_id,) = failed.fail("ann")
        output = failed.output("list")
        assert f"shop.send {failed_id} ValueError" in output
        assert failed("list").output.splitlines()[0].split() == [
            "age", "task", "id", "exception", "queue", "attempts"
        ]  # fmt: skip

    def test_many_are_listed_page_by_page(self, failed, monkeypatch):
        monkeypatch.setattr("lambda_celery.cli.failed_output._PAGE_ROWS", 2)
        ids = failed.fail(*"abcde")
        header, *rows = failed("list").output.splitlines()
        assert header.startswith("age")
        assert sorted(row.split()[2] for row in rows) == sorted(ids)

    def test_by_what_is_chosen(self, failed):
        ann, bob = failed.fail("ann", "bob")
        charge = failed.charge.delay(1).id
        failed.runtime.deliver()
        queue = failed.runtime.settings.queue_url.rpartition("/")[2]

        assert failed.ids() == {ann, bob, charge}
        assert failed.ids("--task", "*.send") == {ann, bob}
        assert failed.ids("--exception", "Connection*") == {charge}
        assert failed.ids("--queue", queue) == {ann, bob, charge}
        assert failed.ids("--queue", "other*") == set()
        assert failed.ids("--older-than", "1h") == set()
        assert failed.ids("--newer-than", "1h", "--task", "shop.charge") == {charge}
        assert failed.ids(ann) == {ann}
        assert len(failed.ids("--limit", "2")) == 2

    def test_what_was_sent_back_is_shown_if_it_is_asked_for(self, failed):
        (ann,) = failed.fail("ann")
        failed.output("retry", ann)
        assert failed.ids() == set()
        assert failed.ids("--all") == {ann}
        assert "(sent back)" in failed.output("list", "--all")

    def test_show(self, failed):
        (ann,) = failed.fail("ann")
        output = failed("show", ann).output
        assert "task:               shop.send" in output
        assert "args:               ('ann',)" in output
        assert "message:            451 ann" in output
        assert 'raise ValueError(f"451 {to}")' in output

        (document,) = failed.lines("show", "--json", ann)
        assert document["body"] is not None

    def test_count(self, failed):
        failed.fail("ann", "bob")
        failed.charge.delay(1)
        failed.runtime.deliver()
        assert failed.output("count").endswith("3 in all.")
        counts = [(each["task"], each["count"]) for each in failed.lines("count", "--json")]
        assert counts == [("shop.send", 2), ("shop.charge", 1)]
        assert [e["count"] for e in failed.lines("count", "--json", "--task", "*.charge")] == [1]

    def test_export(self, failed, tmp_path):
        ann, _ = failed.fail("ann", "bob")
        path = tmp_path / "failed.jsonl"
        told = failed.output("export", ann, "--output", str(path))
        assert told == "Failed tasks written: 1."
        (document,) = map(json.loads, path.read_text().splitlines())
        assert document["task_id"] == ann
        assert "451 ann" in document["traceback"]
        assert len(failed.lines("export")) == 2


class TestSending:
    def test_one(self, failed):
        ann, bob = failed.fail("ann", "bob")
        output = failed.output("retry", ann)
        assert output.startswith(f"shop.send {ann}: sent back to {failed.runtime.stack.queue_url}.")
        assert (failed.ids(), failed.parked) == ({bob}, 1)

        failed.is_mended = True
        failed.runtime.deliver()
        assert failed.ran == ["ann"]

    def test_many_are_counted_and_asked_for(self, failed):
        failed.fail(*map(str, range(10)))
        failed.fail(*map(str, range(10, 20)))
        failed.fail(*map(str, range(20, 25)))

        refused = failed("retry", "--task", "shop.*", answer="n\n")
        assert refused.exit_code == 1
        assert "25 failed tasks are to be sent back. Go on?" in refused.output
        assert failed.parked == 25

        assert "Nothing was changed." in failed.output("retry", "--dry-run")
        assert failed.parked == 25

        output = failed.output("retry", "--rate", "1000", "--limit", "24", answer="y\n")
        assert output.endswith("Sent back: 24.")
        assert (failed.runtime.stack.depth(), failed.parked, len(failed.ids())) == (24, 1, 1)

    def test_what_a_sender_has_written_moves_no_cursor(self, failed):
        headers = {"task": "\x1b[2J", "id": "ann"}
        failed.runtime.stack.send(json.dumps({"body": "", "headers": headers, "properties": {}}))
        failed.runtime.deliver()

        for verb in ("retry", "discard"):
            output = failed(verb, "ann").output
            assert r"\x1b[2J" in output
            assert "\x1b" not in output

    def test_they_are_sent_back_in_their_order_and_once(self, failed, monkeypatch):
        for to in ("ann", "bob", "cid"):
            failed.fail(to)
        from lambda_celery.failures import FailedTasks

        retry = FailedTasks.retry

        def fails_again(self: Any, *args: Any, **kwargs: Any) -> Any:
            done = retry(self, *args, **kwargs)
            failed.runtime.deliver()
            return done

        monkeypatch.setattr(FailedTasks, "retry", fails_again)
        failed.output("retry", "--yes")
        assert failed.ran == ["ann", "bob", "cid"]
        assert (failed.parked, len(failed.ids())) == (3, 3)

    def test_it_can_be_stopped_and_goes_on(self, failed, monkeypatch):
        failed.fail("ann", "bob", "cid")
        send_again, calls = FailedTasks.send_again, []

        def stopped_in_the_second(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(args)
            if len(calls) == 2:
                signal.raise_signal(signal.SIGINT)
            return send_again(self, *args, **kwargs)

        monkeypatch.setattr(FailedTasks, "send_again", stopped_in_the_second)
        done = failed("send-again", "--yes")
        assert done.exit_code == 130
        assert "Stopped. Sent again: 2 of 3. The same command goes on" in done.output

        failed.output("send-again", "--yes")
        assert (failed.ids(), failed.parked, failed.runtime.stack.depth()) == (set(), 0, 3)

    def test_what_cannot_be_sent_back_does_not_keep_others(self, failed):
        failed.fail("ann" * 400_000)
        failed.fail("bob")
        bucket = failed.runtime.settings.payload_bucket
        for each in failed.runtime.stack.s3.list_objects_v2(Bucket=bucket)["Contents"]:
            failed.runtime.stack.s3.delete_object(Bucket=bucket, Key=each["Key"])

        done = failed("retry", "--yes")
        assert done.exit_code == 1
        assert "is gone." in done.output
        assert "Sent back: 1 of 2. See what is said above." in done.output
        assert failed.runtime.stack.depth() == 1

    @pytest.mark.parametrize(
        ("service", "operation", "sent"),
        [("sqs", "SendMessage", 0), ("dynamodb", "UpdateItem", 1)],
    )
    def test_what_refuses_all_is_told_once(self, failed, faults, service, operation, sent):
        failed.fail("ann", "bob")
        faults.fail(failed.runtime.settings, service, operation, "AccessDenied", status=403)
        done = failed("retry", "--yes")
        assert done.exit_code == 1
        assert done.output.count(f"allow {service}:{operation} there") == 1
        assert "Sent back: 0 of 2. See what is said above." in done.output
        assert (failed.runtime.stack.depth(), failed.parked) == (sent, 2 - sent)

    def test_edited(self, failed, editor):
        (ann,) = failed.fail("ann")
        editor('{"args": ["bob"], "kwargs": {}}')
        failed.output("retry", ann, "--edit")
        failed.is_mended = True
        failed.runtime.deliver()
        assert failed.ran == ["bob"]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("{", "What was edited is not JSON"),
            ('{"args": []}', 'not {"args": [...], "kwargs": {...}}'),
            ('{"args": [1, 2], "kwargs": {}}', "These are no arguments of shop.send"),
        ],
    )
    def test_edited_badly(self, failed, editor, text, sentence):
        (ann,) = failed.fail("ann")
        editor(text)
        done = failed("retry", ann, "--edit")
        assert done.exit_code == 1
        assert sentence in done.output
        assert (failed.runtime.stack.depth(), failed.parked) == (0, 1)

    def test_edited_of_a_task_that_is_imported_late(self, failed, editor, imported_late):
        (ann,) = failed.fail("ann")
        imported_late("shop.send")
        editor('{"args": [1, 2], "kwargs": {}}')
        assert "These are no arguments of shop.send" in failed("retry", ann, "--edit").output

    def test_several_are_not_edited(self, failed, editor):
        failed.fail("ann", "bob")
        editor("")
        assert "--edit is for a single failed task" in failed("retry", "--edit").output

    def test_send_again(self, failed):
        (ann,) = failed.fail("ann")
        output = failed.output("send-again", ann)
        assert f"shop.send {ann}: sent again, as " in output
        assert failed.ids("--all") == set()
        assert failed.runtime.stack.depth() == 1

    def test_discard(self, failed):
        failed.fail("ann", "bob")
        failed.output("discard", "--yes")
        assert (failed.ids(), failed.parked) == (set(), 0)


class TestWaiting:
    @pytest.mark.parametrize(
        ("verb", "is_mended", "told"),
        [
            ("retry", True, "ran to its end."),
            ("retry", False, "failed again. ValueError: 451 ann"),
            ("send-again", True, "ran to its end."),
            ("send-again", False, "failed again. ValueError: 451 ann"),
        ],
    )
    def test_it_says_what_has_become_of_it(
        self, failed, monkeypatch, imported_late, verb, is_mended, told
    ):
        (ann,) = failed.fail("ann")
        imported_late("shop.send")
        failed.is_mended = is_mended
        # What runs elsewhere runs here while the command waits.
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: failed.runtime.deliver())
        monkeypatch.setattr("lambda_celery.cli.failed_wait.time", clock)
        done = failed(verb, ann, "--wait")
        assert told in done.output
        assert done.exit_code == (0 if is_mended else 1)

    def test_it_waits_no_longer_than_it_is_told(self, failed):
        (ann,) = failed.fail("ann")
        done = failed("retry", ann, "--wait", "--timeout", "0")
        assert done.exit_code == 1
        assert "not over after 0 s: it waits, runs, or failed and comes back." in done.output

    def test_it_is_for_ids(self, failed):
        assert "--wait goes with IDs" in failed("retry", "--wait").output


class TestSentences:
    def test_no_such_failure(self, failed):
        for command in ("show", "list", "retry", "discard"):
            done = failed(command, "none")
            assert done.exit_code == 1
            assert "No failed task has the id none" in done.output

    def test_no_age(self, failed):
        done = failed("list", "--older-than", "soon")
        assert done.exit_code == 1
        assert "'soon' is no age: write it as 30s, 15m, 2h, 3d or 1w." in done.output

    def test_no_permission(self, failed, faults):
        faults.fail(failed.runtime.settings, "dynamodb", "Query", "AccessDenied", status=403)
        done = failed("list")
        assert done.exit_code == 1
        assert "allow dynamodb:Query there" in " ".join(done.output.split())

    def test_sync(self, failed):
        failed.fail("ann")
        assert "messages looked at: 1, recorded now: 0." in failed.output("sync")

    def test_sync_says_of_a_dead_letter_that_its_task_has_run(self, failed):
        (ann,) = failed.fail("ann")
        (dead,) = failed.runtime.stack.dead_letters()
        failed.runtime.send_copy(dead)  # and nobody deletes it
        failed.is_mended = True
        failed.runtime.deliver()
        assert failed.ids() == set()
        failed.runtime.sqs.change_message_visibility(
            QueueUrl=failed.runtime.stack.dead_letter_queue_url,
            ReceiptHandle=dead["ReceiptHandle"],
            VisibilityTimeout=0,
        )

        failed.output("sync")
        assert failed.ids("--exception", "its task has run since*") == {ann}
        failed.output("discard", "--yes")
        assert (failed.ids(), failed.parked) == (set(), 0)


class TestInBackground:
    """What the function does with many."""

    def test_it_is_counted_and_begun_after_a_question(self, failed):
        failed.fail("ann", "bob")
        failed.is_mended = True
        begin = ("retry", "--task", "shop.*", "--in-background", "mend")

        assert failed.output(*begin, "--dry-run").endswith("2 in all. Nothing was changed.")
        refused = failed(*begin, answer="n\n")
        assert refused.exit_code == 1
        assert "2 failed tasks are to be sent back by the function, up to 50 a second. Go on?" in (
            refused.output
        )
        assert failed.output("bulk", "list") == "There is no bulk action."

        assert "failed bulk show mend --wait" in failed.output(*begin, "--yes")
        shown = failed.output("bulk", "show", "mend")
        assert "action: retry, up to 50 a second state: running task: shop.*" in shown
        failed.runtime.deliver()
        failed.runtime.deliver(2)
        assert sorted(failed.ran) == ["ann", "bob"]
        (ended,) = failed.lines("bulk", "show", "mend", "--wait", "--json")
        assert (ended["state"], ended["counted"], ended["done"]) == ("done", 2, 2)
        assert failed.lines("bulk", "list", "--json") == [ended]

    def test_ending_and_going_on(self, failed):
        failed.fail("ann")
        failed.output("discard", "--in-background", "throw", "--yes")
        assert "state: aborted" in failed.output("bulk", "abort", "throw")
        again = failed("bulk", "abort", "throw")
        assert again.exit_code == 1
        assert again.stderr == "Error: The bulk action throw is aborted already.\n"
        # Whoever waits for what was ended hears of it.
        assert failed("bulk", "show", "throw", "--wait").exit_code == 1
        assert "state: running" in failed.output("bulk", "resume", "throw")
        failed.runtime.deliver(2)
        assert "throw discard done 1 1 0" in failed.output("bulk", "list")
        assert failed.parked == 0

    def test_begun_where_no_task_module_is_imported(self, failed, monkeypatch):
        failed.fail("ann")
        monkeypatch.setattr("celery._state._on_app_finalizers", set())
        command = Celery("command", set_as_current=False)
        names = ("queue_url", "dead_letter_queue_url", "idempotency_table", "endpoint_url")
        command.conf.update({f"lambda_{n}": getattr(failed.runtime.settings, n) for n in names})
        done = CliRunner().invoke(
            lambda_command,
            ["failed", "discard", "--in-background", "throw", "--yes"],
            obj=SimpleNamespace(app=command),
        )
        assert "The bulk action throw has begun" in done.output
        assert failed.runtime.stack.depth() == 1

    def test_one_that_nothing_is_heard_of(self, failed, monkeypatch):
        failed.fail("ann")
        failed.output("retry", "--in-background", "mend", "--yes")
        monkeypatch.setattr("lambda_celery.cli.failed_actions._QUIET_SECONDS", -1)
        told = "Then it goes on with: failed bulk resume mend"
        assert told in failed.output("bulk", "show", "mend")
        # Whoever waits hears of it, too, and waits on.
        looks = iter([False, True])
        monkeypatch.setattr("lambda_celery.cli.stopping.Stop.within", lambda *_: next(looks))
        waited = failed("bulk", "show", "mend", "--wait")
        assert (waited.exit_code, waited.stderr.count(told)) == (130, 1)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("retry", "id"), "--in-background goes with neither IDs nor --limit."),
            (("retry", "--limit", "2"), "--in-background goes with neither IDs nor --limit."),
            (("send-again", "--edit"), "--in-background goes with neither --edit nor --wait"),
        ],
    )
    def test_what_does_not_go_together(self, failed, arguments, told):
        done = failed(*arguments, "--in-background", "mend")
        assert done.exit_code == 2
        assert told in done.output

    def test_a_queue_for_it_alone_means_nothing(self, failed):
        assert "--on-queue goes with --in-background." in failed("retry", "--on-queue", "a").output
