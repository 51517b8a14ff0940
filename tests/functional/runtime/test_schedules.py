"""EventBridge Scheduler: for what is due later than SQS can delay it, and in the place of beat."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery.result import AsyncResult
from celery.schedules import crontab
from click.testing import CliRunner

from lambda_celery import PublishError, aws, batch
from lambda_celery.beat.sync import schedule_name
from lambda_celery.cli import lambda_command
from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.local.provision import provision
from lambda_celery.message import OutgoingMessage
from lambda_celery.schedules import one_time, scheduler
from lambda_celery.schedules.one_time import cancel_schedules
from lambda_celery.schedules.scheduler import SCHEDULED_TIME, schedule_names

ROLE = "arn:aws:iam::000000000000:role/scheduler"
FAR = (datetime.now(UTC) + timedelta(days=5)).replace(hour=12, minute=30, second=45, microsecond=0)


@pytest.fixture
def make_scheduling(make_runtime):
    """Make a runtime whose settings name a schedule group of its own, and a role."""

    def make(**conf):
        group = f"test-{uuid.uuid4().hex[:12]}"
        return make_runtime(
            **{"lambda_schedule_group": group, "lambda_schedule_role_arn": ROLE} | conf
        )

    return make


@pytest.fixture
def runtime(make_scheduling):
    """A runtime whose schedule group exists."""
    made = make_scheduling()
    scheduler.ensure_group(made.settings)
    return made


@pytest.fixture
def created(runtime, faults):
    """The parameters of each schedule that is created."""
    return faults.watch(runtime.settings, "scheduler", "CreateSchedule")


@pytest.fixture
def remind(runtime):
    """A task that notes whom it has reminded."""
    reminded: list[str] = []

    @runtime.task(name="proj.remind")
    def remind(address):
        reminded.append(address)

    remind.reminded = reminded
    return remind


def headers(runtime: Any, body: str) -> dict[str, Any]:
    return dict(read_message(read_envelope(body), runtime.app.conf.accept_content, {}).headers)


class TestFarOff:
    def test_a_message_becomes_a_one_time_schedule(self, runtime, remind, created):
        result = remind.apply_async(("ann@example.org",), eta=FAR)

        (schedule,) = created
        target = schedule["Target"]
        # It fires within its minute, which is over before the message is due.
        assert schedule["ScheduleExpression"] == f"at({FAR:%Y-%m-%d}T12:29:00)"
        assert schedule["ScheduleExpressionTimezone"] == "UTC"
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert schedule["ActionAfterCompletion"] == "DELETE"
        assert schedule["GroupName"] == runtime.settings.schedule_group
        assert re.fullmatch(r"eta-[0-9a-zA-Z-_.]{1,60}", schedule["Name"])
        assert target["RoleArn"] == ROLE
        assert target["Arn"] == runtime.queue_arn
        assert target["DeadLetterConfig"]["Arn"] == f"{runtime.queue_arn}-dead-letters"
        assert headers(runtime, target["Input"])["id"] == result.id
        assert runtime.stack.depth() == 0

    def test_a_batch_makes_its_schedules_too_and_counts_them(self, runtime, remind, created):
        told = []
        with batch(progress=lambda sent, total: told.append((sent, total))):
            results = [remind.apply_async((str(n),), eta=FAR) for n in range(3)]
            remind.delay("now")
            assert created == []

        ids = {headers(runtime, each["Target"]["Input"])["id"] for each in created}
        assert ids == {each.id for each in results}
        assert told[-1] == (4, 4)
        assert runtime.deliver().all_deleted
        assert remind.reminded == ["now"]

    def test_what_is_due_after_a_revoke_would_be_forgotten_comes_by_the_queue_on_its_way(
        self, runtime, remind, created
    ):
        now = datetime.now(UTC)
        remind.apply_async(("ann@example.org",), eta=now + timedelta(days=60))

        expression = created[0]["ScheduleExpression"]
        assert f"at({now + timedelta(days=12):%Y}" <= expression
        assert expression <= f"at({now + timedelta(days=14):%Y-%m-%dT%H:%M:%S})"

    def test_what_scheduler_delivers_is_run_once_although_it_hopped_too(self, runtime, remind):
        # Given: a message that is on the queue, and that a schedule is to deliver now
        result = remind.delay("ann@example.org")
        (hopped,) = runtime.receive()
        due = datetime.now(UTC) - timedelta(minutes=1)
        message = OutgoingMessage(hopped["Body"], due=due, task_id=result.id)
        one_time.create_one_time_schedule(runtime.settings, runtime.stack.queue_url, message)

        # When: it fires (the emulator looks every ten seconds)
        (fired,) = runtime.receive(1, wait_seconds=30)

        # Then
        assert schedule_names(runtime.settings, "eta-") == []
        assert runtime.hand_over([fired]).all_deleted
        assert runtime.hand_over([hopped]).all_deleted
        assert remind.reminded == ["ann@example.org"]

    def test_what_arrives_early_is_sent_on_with_the_exact_delay(
        self, runtime, remind, created, faults
    ):
        # Given: a message that is due in 100.5 s, as a schedule delivers it
        eta = datetime.now(UTC) + timedelta(seconds=100.5)
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        remind.apply_async(("ann@example.org",), eta=eta)
        body = sent.pop()["MessageBody"]
        runtime.stack.send(body)

        # When
        assert runtime.deliver().all_deleted

        # Then
        (request,) = sent
        now = datetime.now(UTC)
        assert now + timedelta(seconds=request["DelaySeconds"]) >= eta
        assert request["MessageBody"] == body
        assert remind.reminded == []
        assert created == []

    def test_what_hops_already_is_scheduled_by_the_runtime(self, runtime, remind, created):
        # Given: a message on the queue that a producer without Scheduler has sent
        result = remind.apply_async(("ann@example.org",), eta=FAR)
        body = created.pop()["Target"]["Input"]
        runtime.stack.send(body)

        assert runtime.deliver().all_deleted

        (schedule,) = created
        assert schedule["Target"]["Input"] == body
        assert runtime.stack.depth() == 0
        assert cancel_schedules(runtime.settings, result.id) == 2

    def test_a_big_body_leaves_its_pointer(self, runtime, remind, created):
        remind.apply_async(("x" * 2_000_000,), eta=FAR)

        (schedule,) = created
        pointer = schedule["Target"]["Input"]
        bucket = runtime.settings.payload_bucket
        (stored,) = runtime.stack.s3.list_objects_v2(Bucket=bucket)["Contents"]
        assert stored["Key"] in pointer

    @pytest.mark.parametrize(
        "options",
        [
            {"MessageGroupId": "acme"},
            {"message_attributes": {"t": {"DataType": "String", "StringValue": "acme"}}},
            {"args": ("x" * 300_000,)},
            {"countdown": 600, "eta": None},
            {"DelaySeconds": 10},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_what_a_schedule_cannot_carry_or_need_not_hops(
        self, runtime, remind, created, faults, options
    ):
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")

        remind.apply_async(**{"args": ("ann@example.org",), "eta": FAR} | options)

        assert created == []
        (request,) = sent
        assert 0 < request["DelaySeconds"] <= 900

    def test_without_a_role_it_hops(self, make_scheduling, faults):
        runtime = make_scheduling(lambda_schedule_role_arn=None)
        created = faults.watch(runtime.settings, "scheduler", "CreateSchedule")
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")

        runtime.app.send_task("proj.remind", eta=FAR)

        assert created == []
        assert sent[0]["DelaySeconds"] == 900

    def test_throttled_it_hops_and_the_log_says_so(self, runtime, remind, faults, caplog):
        faults.fail(
            runtime.settings, "scheduler", "CreateSchedule", "ThrottlingException", status=429
        )
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")

        remind.apply_async(("ann@example.org",), eta=FAR)

        assert sent[0]["DelaySeconds"] == 900
        assert "scheduler:CreateSchedule" in caplog.text
        assert "hops" in caplog.text

    def test_refused_the_producer_hears_what_to_allow(self, runtime, remind, faults):
        faults.fail(
            runtime.settings, "scheduler", "CreateSchedule", "AccessDeniedException", status=403
        )

        with pytest.raises(PublishError, match="allow scheduler:CreateSchedule there"):
            remind.apply_async(("ann@example.org",), eta=FAR)
        assert runtime.stack.depth() == 0

    def test_without_the_group_the_producer_hears_which_setting_names_it(self, make_scheduling):
        runtime = make_scheduling(lambda_schedule_group="absent")

        with pytest.raises(PublishError, match=r"absent does not exist.*lambda_schedule_group"):
            runtime.app.send_task("proj.remind", eta=FAR)

    def test_refused_to_the_function_what_is_on_the_queue_hops(
        self, runtime, remind, created, faults, caplog
    ):
        remind.apply_async(("ann@example.org",), eta=FAR)
        runtime.stack.send(created[0]["Target"]["Input"])
        faults.fail(
            runtime.settings, "scheduler", "CreateSchedule", "AccessDeniedException", status=403
        )
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")

        assert runtime.deliver().all_deleted

        assert sent[0]["DelaySeconds"] == 900
        assert "allow scheduler:CreateSchedule there" in caplog.text


class TestCancelled:
    def test_a_revoked_task_leaves_no_schedule_and_others_keep_theirs(self, runtime, remind):
        revoked = remind.apply_async(("ann@example.org",), eta=FAR)
        kept = remind.apply_async(("bob@example.org",), eta=FAR)

        revoked.revoke()

        assert cancel_schedules(runtime.settings, revoked.id) == 0
        assert len(schedule_names(runtime.settings, "eta-")) == 1
        assert cancel_schedules(runtime.settings, kept.id) == 1

    def test_a_revoked_task_leaves_no_body_in_s3(self, runtime, remind):
        bucket = runtime.settings.payload_bucket
        revoked = remind.apply_async(("x" * 1_000_000,), eta=FAR)
        assert runtime.stack.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1

        revoked.revoke()

        assert runtime.stack.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0

    def test_a_body_that_may_be_on_its_way_by_now_stays(self, runtime, remind):
        bucket = runtime.settings.payload_bucket
        soon = datetime.now(UTC) + timedelta(seconds=901)
        revoked = remind.apply_async(("x" * 1_000_000,), eta=soon)
        (name,) = schedule_names(runtime.settings, "eta-")
        described = scheduler.get_schedule(runtime.settings, name)
        names = ("FlexibleTimeWindow", "Target", "ActionAfterCompletion")
        defined = {each: described[each] for each in names}
        scheduler.update_schedule(
            runtime.settings, name, {**defined, "ScheduleExpression": "at(2026-01-01T00:00:00)"}
        )

        revoked.revoke()

        assert runtime.stack.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1

    def test_a_schedule_that_has_just_fired_is_not_counted(self, runtime, remind, faults):
        result = remind.apply_async(("ann@example.org",), eta=FAR)
        faults.fail(
            runtime.settings, "scheduler", "DeleteSchedule", "ResourceNotFoundException", status=404
        )

        assert cancel_schedules(runtime.settings, result.id) == 0

    def test_without_a_group_there_is_nothing_to_cancel(self, make_runtime, faults):
        runtime = make_runtime()
        asked = faults.watch(runtime.settings, "scheduler", "ListSchedules")

        assert cancel_schedules(runtime.settings, "any") == 0
        assert asked == []

    def test_a_refusal_is_a_sentence(self, runtime, faults):
        faults.fail(
            runtime.settings, "scheduler", "ListSchedules", "AccessDeniedException", status=403
        )

        with pytest.raises(PublishError, match="allow scheduler:ListSchedules there"):
            cancel_schedules(runtime.settings, "any")


class Sync:
    """``celery -A proj lambda schedule sync``."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __call__(self, *options: str, answer: str | None = None) -> Any:
        return CliRunner().invoke(
            lambda_command,
            ["schedule", "sync", *options],
            input=answer,
            obj=SimpleNamespace(app=self._runtime.app),
        )

    def lines(self, *options: str) -> list[str]:
        result = self(*options)
        assert result.exit_code == 0, result.output
        return [" ".join(line.split()) for line in result.output.splitlines()]

    def schedule(self, entry_name: str) -> dict[str, Any]:
        return scheduler.get_schedule(self._runtime.settings, schedule_name(entry_name))

    def occurrence(self, entry_name: str, time: str) -> str:
        """Return what Scheduler puts on the queue at *time*; the emulator replaces nothing."""
        return str(self.schedule(entry_name)["Target"]["Input"]).replace(SCHEDULED_TIME, time)


@pytest.fixture
def sync(runtime):
    return Sync(runtime)


@pytest.fixture
def beat_schedule(runtime):
    runtime.app.conf.timezone = "Europe/Berlin"
    runtime.app.conf.beat_schedule = {
        "digest": {
            "task": "proj.remind",
            "schedule": crontab(minute=0, hour=7),
            "args": ("ann@example.org",),
        },
        "poll": {"task": "proj.poll", "schedule": timedelta(minutes=5)},
    }
    return runtime.app.conf.beat_schedule


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class TestSync:
    def test_shows_its_plan_and_makes_it_real(self, runtime, sync, beat_schedule):
        assert sync.lines("--yes") == [
            "create digest: cron(0 7 * * ? *) Europe/Berlin",
            "create poll: rate(5 minutes) Europe/Berlin",
            "Schedules changed: 2.",
        ]

        digest = sync.schedule("digest")
        assert digest["ScheduleExpression"] == "cron(0 7 * * ? *)"
        assert digest["ScheduleExpressionTimezone"] == "Europe/Berlin"
        assert digest["State"] == "ENABLED"
        assert digest["Target"]["Arn"] == runtime.queue_arn
        assert digest["Target"]["RoleArn"] == ROLE
        assert digest["Target"]["DeadLetterConfig"]["Arn"] == f"{runtime.queue_arn}-dead-letters"

    def test_says_that_it_does_not_read_django_celery_beats_tables(
        self, runtime, sync, beat_schedule
    ):
        assert "django-celery-beat" not in sync("--dry-run").output
        runtime.app.conf.beat_scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
        assert "entries of django-celery-beat" in sync("--dry-run").output

    def test_again_changes_nothing(self, runtime, sync, beat_schedule, faults):
        sync("--yes")
        created = faults.watch(runtime.settings, "scheduler", "CreateSchedule")
        updated = faults.watch(runtime.settings, "scheduler", "UpdateSchedule")

        assert sync.lines("--yes") == [
            "unchanged digest: cron(0 7 * * ? *) Europe/Berlin",
            "unchanged poll: rate(5 minutes) Europe/Berlin",
            "There is nothing to change.",
        ]
        assert created + updated == []

    def test_updates_what_differs_and_deletes_what_is_gone(
        self, runtime, remind, sync, beat_schedule
    ):
        # Given: two schedules, and a one-time schedule in the same group
        sync("--yes")
        reminder = remind.apply_async(("ann@example.org",), eta=FAR)

        # When
        beat_schedule["digest"]["args"] = ("bob@example.org",)
        del beat_schedule["poll"]
        lines = sync.lines("--yes")

        # Then
        assert lines == [
            "update digest: cron(0 7 * * ? *) Europe/Berlin",
            f"delete {schedule_name('poll')}",
            "Schedules changed: 2.",
        ]
        assert schedule_names(runtime.settings, "beat-") == [schedule_name("digest")]
        assert sync.lines("--yes")[-1] == "There is nothing to change."
        assert cancel_schedules(runtime.settings, reminder.id) == 1

    @pytest.mark.parametrize("options", [["--dry-run"], ["--dry-run", "--yes"]])
    def test_a_dry_run_changes_nothing(self, runtime, sync, beat_schedule, options):
        assert sync.lines(*options) == [
            "create digest: cron(0 7 * * ? *) Europe/Berlin",
            "create poll: rate(5 minutes) Europe/Berlin",
        ]
        assert schedule_names(runtime.settings, "beat-") == []

    @pytest.mark.parametrize(("answer", "exit_code", "count"), [("n\n", 1, 0), ("y\n", 0, 2)])
    def test_asks_first(self, runtime, sync, beat_schedule, answer, exit_code, count):
        result = sync(answer=answer)

        assert result.exit_code == exit_code
        assert len(schedule_names(runtime.settings, "beat-")) == count

    def test_one_entry_that_is_refused_stops_all(self, runtime, sync, beat_schedule):
        beat_schedule["often"] = {"task": "proj.poll", "schedule": 10}

        result = sync("--yes")

        assert result.exit_code == 1
        assert re.search(
            r"refused +often: EventBridge Scheduler knows whole minutes", result.output
        )
        assert "Nothing was changed" in result.output
        assert schedule_names(runtime.settings, "beat-") == []

    def test_what_does_not_go_to_sqs_stays_with_beat(self, runtime, sync, beat_schedule):
        # Given: an entry that beat has to fire anyway, and one that has left SQS
        sync("--yes")

        @runtime.task(name="proj.poll", lambda_celery=False)
        def poll():
            """Goes to RabbitMQ."""

        beat_schedule["often"] = {"task": "proj.poll", "schedule": 10}

        lines = sync.lines("--yes")
        assert lines[1:4] == [
            "stays with beat often",
            "stays with beat poll",
            f"delete {schedule_name('poll')}",
        ]
        assert "celery beat fires each entry" in lines[4]

    def test_finds_periodic_tasks_that_are_added_by_receivers(self, runtime, remind, sync):
        @runtime.app.on_after_finalize.connect
        def add(sender, **kwargs):
            sender.add_periodic_task(crontab(hour=3, minute=0), remind.s("ann"), name="nightly")

        assert "create nightly: cron(0 3 * * ? *) UTC" in sync.lines("--dry-run")

    def test_makes_the_group_if_it_is_missing(self, make_scheduling):
        runtime = make_scheduling()
        runtime.app.conf.beat_schedule = {"poll": {"task": "proj.poll", "schedule": crontab()}}

        assert Sync(runtime).lines("--yes")[-1] == "Schedules changed: 1."

    @pytest.mark.parametrize("missing", ["schedule_group", "schedule_role_arn"])
    def test_a_missing_setting_is_named(self, make_scheduling, missing):
        runtime = make_scheduling(**{f"lambda_{missing}": None})

        result = Sync(runtime)("--yes")

        assert result.exit_code == 1
        assert f"Set lambda_{missing} " in result.output

    def test_what_aws_refuses_is_a_sentence(self, runtime, sync, beat_schedule, faults):
        faults.fail(
            runtime.settings, "scheduler", "CreateSchedule", "AccessDeniedException", status=403
        )

        result = sync("--yes")

        assert result.exit_code == 1
        assert "allow scheduler:CreateSchedule there" in result.output


class TestOccurrence:
    def test_runs_once_although_it_is_delivered_twice_and_the_next_one_runs_too(
        self, runtime, remind, sync, beat_schedule
    ):
        sync("--yes")
        first = sync.occurrence("digest", "2026-11-01T06:00:00Z")
        second = sync.occurrence("digest", "2026-11-02T06:00:00Z")

        runtime.stack.send(first, first, second)
        for _ in range(3):
            assert runtime.deliver().all_deleted

        assert remind.reminded == ["ann@example.org"] * 2
        state = AsyncResult(headers(runtime, first)["id"], app=runtime.app).state
        assert state == "SUCCESS"

    def test_expires_as_long_after_its_time_as_the_entry_says(
        self, runtime, remind, sync, beat_schedule
    ):
        beat_schedule["digest"]["options"] = {"expires": 3600}
        sync("--yes")
        now = datetime.now(UTC)
        late, timely = now - timedelta(seconds=3601), now - timedelta(seconds=1800)

        runtime.stack.send(sync.occurrence("digest", iso(late)))
        assert runtime.deliver().all_deleted
        assert remind.reminded == []

        runtime.stack.send(sync.occurrence("digest", iso(timely)))
        assert runtime.deliver().all_deleted
        assert remind.reminded == ["ann@example.org"]

    def test_waits_for_its_countdown(self, runtime, remind, sync, beat_schedule, faults):
        beat_schedule["digest"]["options"] = {"countdown": 600}
        sync("--yes")
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        time = datetime.now(UTC).replace(microsecond=0)
        body = sync.occurrence("digest", iso(time))
        runtime.stack.send(body)

        assert runtime.deliver().all_deleted

        assert remind.reminded == []
        (request,) = sent
        assert request["MessageBody"] == body
        due = datetime.now(UTC) + timedelta(seconds=request["DelaySeconds"])
        assert due >= time + timedelta(seconds=600)

    def test_its_retry_keeps_the_expiry_and_not_the_countdown(self, runtime, sync, faults):
        # Given: an occurrence whose countdown is over
        @runtime.task(name="proj.report", bind=True)
        def report(self):
            raise self.retry(countdown=30)

        runtime.app.conf.beat_schedule = {
            "report": {
                "task": "proj.report",
                "schedule": crontab(),
                "options": {"expires": 3600, "countdown": 60, "headers": {"tenant": "acme"}},
            }
        }
        sync("--yes")
        time = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=120)
        runtime.stack.send(sync.occurrence("report", iso(time)))
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")

        # When
        assert runtime.deliver().all_deleted

        # Then
        (request,) = sent
        retry = headers(runtime, request["MessageBody"])
        assert retry["retries"] == 1
        assert datetime.fromisoformat(retry["expires"]) == time + timedelta(seconds=3600)
        assert datetime.fromisoformat(retry["eta"]) > time + timedelta(seconds=120)
        assert retry["tenant"] == "acme"
        assert retry["id"] == f"{schedule_name('report')}-{iso(time)}"
        assert "lambda_schedule" not in retry

    def test_the_retry_of_a_stock_worker_keeps_its_own_eta(
        self, runtime, remind, sync, beat_schedule
    ):
        # Given: a retry with the header that such a worker does not know, and with an eta
        beat_schedule["digest"]["options"] = {"countdown": 86_400}
        sync("--yes")
        now = datetime.now(UTC)
        envelope = json.loads(sync.occurrence("digest", iso(now)))
        envelope["headers"] |= {"retries": 1, "eta": now.isoformat()}

        runtime.stack.send(json.dumps(envelope))
        assert runtime.deliver().all_deleted

        assert remind.reminded == ["ann@example.org"]

    def test_one_whose_time_cannot_be_read_comes_back(self, runtime, remind, sync, beat_schedule):
        beat_schedule["digest"]["options"] = {"expires": 3600}
        sync("--yes")
        runtime.stack.send(sync.occurrence("digest", "never"))

        assert runtime.deliver().all_returned


class TestFifo:
    @pytest.fixture
    def stack(self, make_stack):
        return make_stack(".fifo")

    def test_needs_deduplication_by_content(self, runtime, sync, beat_schedule):
        result = sync("--yes")

        assert result.exit_code == 1
        assert "turn on ContentBasedDeduplication of" in result.output

    def test_has_the_group_of_the_entry_and_no_dead_letter_queue(
        self, runtime, sync, beat_schedule
    ):
        runtime.sqs.set_queue_attributes(
            QueueUrl=runtime.stack.queue_url, Attributes={"ContentBasedDeduplication": "true"}
        )
        beat_schedule["digest"]["options"] = {"MessageGroupId": "acme"}

        assert sync.lines("--yes")[-1] == "Schedules changed: 2."

        digest, poll = sync.schedule("digest")["Target"], sync.schedule("poll")["Target"]
        assert digest["SqsParameters"] == {"MessageGroupId": "acme"}
        assert poll["SqsParameters"] == {"MessageGroupId": "default"}
        assert "DeadLetterConfig" not in digest  # Scheduler takes no FIFO queue for that

    def test_refuses_a_countdown(self, runtime, sync, beat_schedule):
        beat_schedule["digest"]["options"] = {"countdown": 60}

        assert "cannot delay a single message" in sync("--yes").output


def test_provisioning_makes_the_group_and_keeps_it(make_scheduling):
    settings = make_scheduling().settings

    for _ in range(2):
        provision(settings, function_timeout_seconds=5)

    group = aws.client("scheduler", settings).get_schedule_group(Name=settings.schedule_group)
    assert group["State"] == "ACTIVE"


@pytest.fixture
def command(runtime):
    """``celery -A proj lambda schedule …``."""

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(
            lambda_command, ["schedule", *arguments], obj=SimpleNamespace(app=runtime.app)
        )
        assert done.exit_code == code, done.output
        return str(done.output)

    return run


class TestPause:
    """``schedule pause`` and ``schedule continue``."""

    def test_a_deployment_does_not_continue_what_is_paused(self, sync, beat_schedule, command):
        sync("--yes")
        assert command("pause", "digest") == (
            "The schedule digest is paused. What it has already put on the queue still runs.\n"
        )

        assert sync.lines("--yes")[:2] == [
            "unchanged digest: cron(0 7 * * ? *) Europe/Berlin, paused",
            "unchanged poll: rate(5 minutes) Europe/Berlin",
        ]
        beat_schedule["digest"]["args"] = ("bob@example.org",)
        assert sync.lines("--yes")[-1] == "Schedules changed: 1."

        assert sync.schedule("digest")["State"] == "DISABLED"
        assert sync.schedule("poll")["State"] == "ENABLED"
        assert command("continue", "digest") == "The schedule digest is on again.\n"
        assert sync.schedule("digest")["State"] == "ENABLED"

    def test_all_else_of_the_schedule_stays_as_it_is(self, runtime, sync, beat_schedule, command):
        # Given: one that has all that a schedule may have
        sync("--yes")
        name = schedule_name("digest")
        told = ("Arn", "CreationDate", "LastModificationDate", "ResponseMetadata", "Name")
        before = sync.schedule("digest") | {
            "Description": "by hand",
            "EndDate": datetime(2040, 1, 1, tzinfo=UTC),
            "StartDate": datetime(2020, 1, 1, tzinfo=UTC),
            "KmsKeyArn": "arn:aws:kms:eu-west-1:000000000000:key/k",
            "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5},
        }
        before["Target"]["RetryPolicy"] = {"MaximumRetryAttempts": 3}
        given = {key: value for key, value in before.items() if key not in (*told, "GroupName")}
        scheduler.update_schedule(runtime.settings, name, given)

        # When
        command("pause", name)
        command("continue", name)

        # Then
        after = sync.schedule("digest")
        assert {key: after[key] for key in given} == given

    def test_again_it_changes_nothing(self, runtime, sync, beat_schedule, command, faults):
        sync("--yes")
        command("pause", "digest")
        updated = faults.watch(runtime.settings, "scheduler", "UpdateSchedule")

        assert command("pause", "digest") == "The schedule digest was paused already.\n"
        assert command("continue", "poll") == "The schedule poll was not paused.\n"
        assert updated == []

    def test_an_unknown_name_is_refused_with_those_that_there_are(
        self, sync, beat_schedule, command
    ):
        assert "There are none: celery lambda" in command("pause", "digest", code=1)
        sync("--yes")
        del beat_schedule["poll"]
        told = command("pause", "digests", code=1)
        assert "has no schedule 'digests'. There are " in told
        assert f"There are {schedule_name('poll')}, digest." in told

    def test_a_refusal_is_a_sentence(self, runtime, sync, beat_schedule, command, faults):
        sync("--yes")
        faults.fail(
            runtime.settings, "scheduler", "UpdateSchedule", "AccessDeniedException", status=403
        )
        assert "allow scheduler:UpdateSchedule there" in command("pause", "digest", code=1)


class TestList:
    """``schedule list``."""

    def test_tells_when_what_and_whether_it_is_paused(self, sync, beat_schedule, command):
        sync("--yes")
        command("pause", "poll")

        digest, poll = json.loads(command("list", "--json"))

        next_run = datetime.fromisoformat(digest.pop("next_run"))
        assert (next_run.hour, next_run.minute, next_run.second) == (7, 0, 0)
        assert datetime.now(UTC) < next_run <= datetime.now(UTC) + timedelta(days=1, hours=1)
        assert digest == {
            "name": "digest",
            "schedule_name": schedule_name("digest"),
            "expression": "cron(0 7 * * ? *)",
            "time_zone": "Europe/Berlin",
            "task": "proj.remind",
            "is_paused": False,
        }
        assert (poll["is_paused"], poll["next_run"]) == (True, None)
        lines = [line.split() for line in command("list").splitlines()]
        assert lines[0][:2] == ["Name", "Expression"]
        assert lines[1][-5:-2] == ["Europe/Berlin", "proj.remind", "on"]
        assert lines[2][-3:] == ["proj.poll", "paused", "-"]

    def test_one_without_its_entry_is_listed_by_its_own_name(self, sync, beat_schedule, command):
        assert command("list").startswith("There are no schedules: ")
        sync("--yes")
        name = schedule_name("digest")
        del beat_schedule["digest"]

        assert name in [each["name"] for each in json.loads(command("list", "--json"))]

    def test_what_is_no_markup_is_shown_as_it_is(self, sync, beat_schedule, command):
        beat_schedule["[/] :wave:"] = beat_schedule["poll"]
        sync("--yes")
        assert "[/] :wave:" in command("list")


class TestRun:
    """``schedule run``."""

    def test_publishes_the_task_as_a_new_call(self, runtime, remind, sync, beat_schedule, command):
        sync("--yes")
        command("pause", "digest")

        said = [command("run", each) for each in ("digest", schedule_name("digest"))]

        ids = [each.rstrip(".\n").rpartition(" ")[2] for each in said]
        assert said[0] == f"Published: digest, with the task id {ids[0]}.\n"
        messages = runtime.receive(2)
        assert {runtime.envelope(each)["headers"]["id"] for each in messages} == {*ids}
        assert runtime.hand_over(messages).all_deleted
        assert remind.reminded == ["ann@example.org"] * 2
        assert sync.schedule("digest")["State"] == "DISABLED"

    def test_an_entry_that_there_is_not_or_that_stays_with_beat_is_refused(
        self, runtime, beat_schedule, command
    ):
        @runtime.task(name="proj.here", lambda_celery=False)
        def here():
            pass

        beat_schedule["here"] = {"task": "proj.here", "schedule": timedelta(minutes=5)}
        for each in ("gone", "here"):
            told = command("run", each, code=1)
            assert f"has no entry '{each}' whose task goes to SQS. There are digest, poll" in told

    def test_a_refusal_is_a_sentence(self, runtime, remind, beat_schedule, command, faults):
        for operation in ("SendMessage", "SendMessageBatch"):
            faults.fail(runtime.settings, "sqs", operation, "AccessDenied", status=403)
        assert "allow sqs:SendMessage there" in command("run", "digest", code=1)
