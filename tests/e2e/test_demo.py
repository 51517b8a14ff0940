"""The demo: it keeps its promises, and it notices when one is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.demos import ROOT, figure, run_demo

EXAMPLE = ROOT / "examples" / "django_mail"
DEMO = str(EXAMPLE / "demo.py")


def test_demo_keeps_its_promises(tmp_path):
    run = run_demo([DEMO, "--members", "60"], tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    assert figure(run.stdout, "enqueued") == "60"
    assert figure(run.stdout, "delivered") == "60"
    assert figure(run.stdout, "the task's report") == "1"
    assert figure(run.stdout, "delivered twice") == "0"
    assert figure(run.stdout, "retried after a 451") == "5"
    assert figure(run.stdout, "parked") == "1"
    assert figure(run.stdout, "lost") == "0"
    assert figure(run.stdout, "process killed").startswith("process ")
    assert "Broken" not in run.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_demo_fails_when_a_mail_cannot_be_delivered(tmp_path):
    run = run_demo([DEMO, "--members", "60", "--refuse-for-good", "1"], tmp_path)

    assert run.returncode == 1, run.stdout + run.stderr
    assert figure(run.stdout, "delivered") == "59"
    assert figure(run.stdout, "parked") == "2"
    assert figure(run.stdout, "lost") == "1: member-1@example.org"
    assert "Broken: lost: 1: member-1@example.org" in run.stdout


def test_too_small_a_group_is_refused_before_anything_starts(tmp_path):
    run = run_demo([DEMO, "--members", "3"], tmp_path)

    assert run.returncode == 2
    assert "--members must be" in run.stderr


@pytest.fixture
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE)
    import rehearsal.outcome

    return rehearsal.outcome


@pytest.fixture
def good(rehearsal: Any) -> Any:
    """A run of four members, as it should be; process 7 was killed at ``c`` and ``d``."""

    def mail(name: str, process_id: int, attachment_bytes: int = 0) -> Any:
        address = f"{name}@x.org"
        return rehearsal.Mail(address, address, f"<{name}@id>", process_id, attachment_bytes, 1.0)

    return rehearsal.Outcome(
        enqueued={f"{name}@x.org" for name in "abcd"},
        repeated={"a@x.org"},
        report_to="office@x.org",
        accepted=[
            *(mail("a", 6), mail("b", 6, 9), mail("c", 7), mail("c", 8), mail("d", 8)),
            mail("office", 8),
        ],
        refused=[mail("b", 6)],
        parked=[rehearsal.Parked(rehearsal.POISON, "unreadable")],
        left_on_queue=rehearsal.Depth(1.0, 0, 0, 0),
        killed_process_id=7,
        killed_batch={"c@x.org", "d@x.org"},
        with_attachment={"b@x.org"},
        attachment_bytes=9,
        objects_in_s3=1,
        enqueue_seconds=1.0,
        seconds=1.0,
    )


def test_a_mail_that_the_killed_process_had_sent_is_named_and_excused(good):
    assert good.broken_promises() == []
    [row] = [row for row in good.rows() if row.name.strip() == "killed before commit"]
    assert row.figure == "1: c@x.org"


def with_other_id(outcome: Any) -> list[Any]:
    """Return the mails, of which the killed process's one has a ``Message-ID`` of its own."""
    return [replace(m, message_id="<7@id>") if m.process_id == 7 else m for m in outcome.accepted]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda o: {"accepted": [*o.accepted, o.accepted[0]]}, "delivered twice: 1: a@x.org"),
        (lambda o: {"accepted": [*o.accepted, o.accepted[4]]}, "delivered twice: 1: d@x.org"),
        (lambda o: {"accepted": [*o.accepted, o.accepted[3]]}, "delivered twice: 1: c@x.org"),
        (lambda o: {"accepted": with_other_id(o)}, "delivered twice: 1: c@x.org"),
        (lambda o: {"accepted": o.accepted[1:]}, "lost: 1: a@x.org"),
        (lambda o: {"accepted": o.accepted[:-1]}, "the task's report: 0"),
        (lambda o: {"accepted": [replace(o.accepted[0], to="b@x.org")]}, "delivered: 0"),
        (lambda o: {"enqueued": o.enqueued - {"a@x.org"}}, "delivered: 3"),
        (lambda o: {"enqueued": o.enqueued | {"e@x.org"}}, "delivered: 4"),
        (lambda o: {"refused": [replace(o.refused[0], recipient="e")]}, "retried after a 451: 0"),
        (lambda o: {"parked": []}, "parked: 0"),
        (lambda o: {"parked": [replace(o.parked[0], body="a task")]}, "parked: 1"),
        (lambda o: {"parked": [replace(o.parked[0], reason=None)]}, "because: 1: no reason"),
        (lambda o: {"left_on_queue": replace(o.left_on_queue, delayed=1)}, "left on the queue: 1"),
        (lambda _: {"killed_process_id": None}, "process killed: none"),
        (lambda _: {"attachment_bytes": 8}, "attachment through S3: 0 of 8 bytes"),
        (lambda o: {"with_attachment": o.enqueued}, "attachment through S3: 1 of 9 bytes"),
        (lambda _: {"objects_in_s3": 2}, "objects in S3: 2"),
    ],
)
def test_each_broken_promise_is_named(
    good: Any, change: Callable[[Any], dict[str, Any]], broken: str
):
    outcome = replace(good, **change(good))

    assert any(line.startswith(broken) for line in outcome.broken_promises())
