"""Mails go at the rate that SES allows, as SES itself tells it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import delivery, ses_rate, tasks
from lambda_celery.django.mail.connections import Connections
from lambda_celery.django.mail.ses_account import Account
from lambda_celery.django.mail.ses_rate import SesRate

OURS = "lambda_celery.django.mail.EmailBackend"
ONE_A_MINUTE = {"SendQuota": {"MaxSendRate": 1 / 60}, "SendingEnabled": True}


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Ses:
    """An SES of the test's own: its account says what the test writes there, and it takes mails."""

    def __init__(self) -> None:
        self.account: dict[str, Any] = {}
        self.taken: list[str] = []
        self.refusals: list[str] = []
        self.asked = 0
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, dict[str, Any]]:
        """Answer as SES's API does."""
        if request.path == "/v2/email/account":
            self.asked += 1
            return 200, self.account
        asked = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        if self.refusals:
            return 429, {"__type": self.refusals.pop(), "message": "Maximum sending rate exceeded."}
        self.taken += asked["Destination"]["ToAddresses"]
        return 200, {"MessageId": "1"}


@pytest.fixture
def ses() -> Iterator[Ses]:
    made = Ses()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = made.answer(self)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="ses")
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_rate(stack, clock):
    """Make the rate of one more environment."""
    return lambda *account, **known: SesRate(stack.settings, Account(*account, **known), clock)


@pytest.fixture
def rate(make_rate) -> SesRate:
    return make_rate()


@pytest.fixture
def asking(monkeypatch, ses) -> Iterator[None]:
    """Have django-anymail deliver to the test's SES, at its rate."""
    assert tasks.deliver  # registered, as the app's ready() does
    for name in ("_breakers", "_rates"):
        monkeypatch.setattr(delivery, name, {})
    monkeypatch.setattr(delivery, "_connections", Connections())
    with override_settings(
        EMAIL_BACKEND=OURS,
        CELERY_EMAIL_BACKEND="anymail.backends.amazon_ses.EmailBackend",
        CELERY_EMAIL_RATE_LIMIT="ses",
        ANYMAIL={
            "AMAZON_SES_CLIENT_PARAMS": {
                "endpoint_url": ses.url,
                "config": {"retries": {"total_max_attempts": 1}},
            }
        },
    ):
        yield


def a_mail(*to: str) -> EmailMessage:
    return EmailMessage("Hello", "text", "from@example.com", list(to))


def buckets(stack: Any) -> list[str]:
    found = stack.dynamodb.scan(TableName=stack.settings.idempotency_table)["Items"]
    return [key for each in found if (key := each["id"]["S"]).startswith("rate#")]


class TestLearning:
    def test_the_emulated_ses_is_asked_once_in_a_quarter_of_an_hour(
        self, rate, stack, faults, clock
    ):
        asked = faults.watch(stack.settings, "sesv2", "GetAccount")

        assert [rate.per_second() for _ in range(3)] == [14.0] * 3
        assert len(asked) == 1
        clock.now += 901
        assert rate.per_second() == 14.0
        assert len(asked) == 2

    def test_it_is_asked_again_where_ses_calls_it_too_fast_but_not_by_each_mail(
        self, rate, stack, faults, clock
    ):
        asked = faults.watch(stack.settings, "sesv2", "GetAccount")
        rate.per_second()

        rate.is_exceeded()
        rate.per_second()
        assert len(asked) == 1
        clock.now += 61
        rate.per_second()
        rate.is_exceeded()
        rate.per_second()

        assert len(asked) == 2

    def test_without_the_permission_mails_go_and_one_line_says_which_it_is(
        self, rate, stack, faults, clock, caplog
    ):
        undo = faults.fail(
            stack.settings, "sesv2", "GetAccount", "AccessDeniedException", status=403
        )

        for _ in range(3):
            assert rate.seconds_to_wait(1) == 0
            clock.now += 61

        [line] = caplog.messages
        assert "allow ses:GetAccount there in the IAM policy of this process's role" in line
        undo()
        clock.now += 61
        assert rate.per_second() == 14.0

    @pytest.mark.parametrize(
        ("code", "status"), [("TooManyRequestsException", 429), ("InternalFailure", 500)]
    )
    def test_what_was_known_holds_while_ses_does_not_say(
        self, rate, stack, faults, clock, caplog, code, status
    ):
        assert rate.per_second() == 14.0
        clock.now += 901

        faults.fail(stack.settings, "sesv2", "GetAccount", code, status=status)

        assert rate.per_second() == 14.0
        assert "by the last known rate, 14/s" in caplog.text

    def test_an_endpoint_that_is_away_or_none_holds_no_mail(self, make_rate, caplog):
        for url in ("http://127.0.0.1:1", "nonsense"):
            assert make_rate("eu-west-1", url).seconds_to_wait(1) == 0

        assert [each.startswith("SES's rate could not be") for each in caplog.messages] == [
            True
        ] * 2

    @pytest.mark.parametrize(
        "answer",
        [
            {"SendingEnabled": False, "SendQuota": {"MaxSendRate": 14.0, "Max24HourSend": -1.0}},
            {"EnforcementStatus": "SHUTDOWN", "SendQuota": {"MaxSendRate": 0.0}},
            {},
        ],
        ids=["paused", "shut down", "it says nothing"],
    )
    def test_an_account_that_sends_nothing_is_left_to_the_answers_to_mails(
        self, make_rate, ses, caplog, answer
    ):
        ses.account = answer

        assert make_rate(None, ses.url).seconds_to_wait(1) == 0

        assert ("SES sends nothing for this account" in caplog.text) == bool(answer)


class TestTurns:
    def test_each_recipient_is_a_token(self, make_rate, ses):
        ses.account = {"SendQuota": {"MaxSendRate": 0.5}}
        rate = make_rate(None, ses.url)

        assert rate.seconds_to_wait(5) == 0
        assert [rate.seconds_to_wait(1), rate.seconds_to_wait(1)] == [10, 12]

    def test_mailers_of_one_account_share_its_rate_and_others_do_not(self, make_rate, ses):
        ses.account = ONE_A_MINUTE
        key = (("aws_access_key_id", "AKIA"), ("aws_secret_access_key", "x"))

        assert make_rate(None, ses.url).seconds_to_wait(1) == 0
        assert make_rate(None, ses.url).seconds_to_wait(1) == 60
        assert make_rate("us-east-1", ses.url).seconds_to_wait(1) == 0
        assert make_rate(None, ses.url, credentials=key).seconds_to_wait(1) == 0

    def test_a_table_that_cannot_be_asked_holds_no_mail(self, rate, stack, faults, caplog):
        faults.fail(stack.settings, "dynamodb", "UpdateItem", "ThrottlingException")

        assert rate.seconds_to_wait(1) == 0

        assert "Mails go without SES's rate" in caplog.text


@pytest.mark.usefixtures("asking")
class TestDelivery:
    def test_a_mail_whose_turn_is_late_comes_back(self, runtime, stack, ses):
        ses.account = ONE_A_MINUTE
        for name in ("ann", "bob"):
            a_mail(f"{name}@example.com").send()

        assert runtime.deliver(2).all_deleted

        assert len(ses.taken) == 1
        assert ses.asked == 1
        assert buckets(stack) == ["rate#ses/eu-west-1"]
        assert stack.dead_letters() == []

    def test_a_mail_whose_turn_is_near_waits_for_it_in_the_invocation(self, runtime, ses):
        ses.account = {"SendQuota": {"MaxSendRate": 14.0}}
        for n in range(4):
            a_mail(f"{n}@example.com").send()

        assert runtime.deliver(4).all_deleted

        assert len(ses.taken) == 4

    def test_ses_is_asked_again_after_it_has_called_a_mail_too_fast(
        self, runtime, ses, monkeypatch
    ):
        monkeypatch.setattr(delivery, "_TOO_FAST_SECONDS", (0, 0))
        monkeypatch.setattr(ses_rate, "_SOON_SECONDS", 0.0)
        ses.account = {"SendQuota": {"MaxSendRate": 50.0}}
        ses.refusals = ["TooManyRequestsException"]
        a_mail("ann@example.com").send()

        for _ in range(2):
            runtime.deliver()

        assert ses.taken == ["ann@example.com"]
        assert ses.asked == 2

    def test_where_nobody_asks_for_it_ses_is_not_asked(self, runtime, stack, ses):
        a_mail("ann@example.com").send()

        with override_settings(CELERY_EMAIL_RATE_LIMIT=None):
            runtime.deliver()

        assert ses.taken == ["ann@example.com"]
        assert ses.asked == 0
        assert buckets(stack) == []
