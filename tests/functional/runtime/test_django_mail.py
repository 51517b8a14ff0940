"""Django's mail by way of the queue, delivered by SMTP to a server that answers as it is told."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import smtplib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.mime.application import MIMEApplication
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from django.core import mail
from django.core.mail import EmailMessage, send_mail
from django.db import transaction
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import breaker, delivery, options, render_later, tasks
from lambda_celery.django.mail.connections import Connections
from lambda_celery.exceptions import PublishError, UnsupportedMailError
from lambda_celery.publishing.marks import Running, RunningCall

BACKEND = "lambda_celery.django.mail.EmailBackend"
PDF = b"%PDF-1.4" + bytes(range(256)) * 400


class Server:
    """Takes mails, and answers what the test tells it to."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], Any]] = []
        self.answers: list[str] = []
        self.of_recipients: dict[str, str] = {}
        self.connections = 0
        self.lock = threading.Lock()

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.of_recipients:
            return self.of_recipients[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        with self.lock:
            if self.answers and not (answer := self.answers.pop(0)).startswith("250"):
                return answer
            parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
            self.taken.append((envelope.rcpt_tos, parsed))
        return "250 OK"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="smtp")
    thread.start()
    serving = loop.create_server(lambda: SMTP(made, hostname="server"), "127.0.0.1", 0)
    listening = asyncio.run_coroutine_threadsafe(serving, loop).result()
    port = listening.sockets[0].getsockname()[1]
    assert tasks.deliver  # registered, as the app's ready() does
    monkeypatch.setattr(delivery, "_connections", Connections())
    monkeypatch.setattr(delivery, "_breakers", {})
    monkeypatch.setattr(delivery, "_FIRST_BACKOFF_SECONDS", 0)
    with override_settings(EMAIL_BACKEND=BACKEND, EMAIL_HOST="127.0.0.1", EMAIL_PORT=port):
        yield made
    loop.call_soon_threadsafe(listening.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def a_mail(*to: str, **options: Any) -> EmailMessage:
    return EmailMessage("Hello", "Grüße", "from@example.com", list(to), **options)


def mailers(runtime: Any, stack: Any) -> list[dict[str, Any]]:
    """Return what the table has of mailers that are left alone."""
    found: list[dict[str, Any]] = stack.dynamodb.scan(
        TableName=runtime.settings.idempotency_table,
        FilterExpression="begins_with(id, :mailer)",
        ExpressionAttributeValues={":mailer": {"S": "mailer#"}},
    )["Items"]
    return found


class TestPublishing:
    def test_a_mail_arrives_and_its_id_is_made_once(self, runtime, server):
        assert (
            send_mail(
                "Hello", "text", "from@example.com", ["ann@example.com"], html_message="<p>html</p>"
            )
            == 1
        )

        [message] = runtime.receive()
        published = runtime.envelope(message)["body"]
        assert runtime.hand_over([message]).all_deleted
        [(recipients, parsed)] = server.taken
        assert recipients == ["ann@example.com"]
        assert parsed["Subject"] == "Hello"
        assert [part.get_content_type() for part in parsed.walk()] == [
            "multipart/alternative", "text/plain", "text/html",
        ]  # fmt: skip
        assert published
        assert parsed["Message-ID"]

    def test_each_mail_is_one_message(self, runtime, server):
        sent = mail.get_connection().send_messages([a_mail(f"{n}@example.com") for n in range(12)])

        assert sent == 12
        assert runtime.deliver(12).all_deleted
        assert sorted(to for [to], _ in server.taken) == sorted(
            f"{n}@example.com" for n in range(12)
        )

    def test_a_mail_to_nobody_is_none(self, runtime, server):
        assert mail.get_connection().send_messages([a_mail()]) == 0
        assert mail.get_connection().send_messages([]) == 0

    @pytest.mark.parametrize(
        "options",
        [
            {"attachments": [("a\nBcc: b@example.com", b"x", "application/pdf")]},
            {"attachments": [("ä\r.txt", "x", "text/plain")]},
            {"attachments": [("a.txt", b"x", "text/plain\nX: y")]},
            {"attachments": [("a.eml", EmailMessage("a\nb", "b", "f@example.com"), None)]},
            {"headers": {"X-Own": "a\nb"}},
        ],
        ids=["name", "its other spelling", "type", "mail", "header"],
    )
    def test_a_line_break_in_what_becomes_a_header_is_refused(
        self, runtime, server, stack, options
    ):
        with pytest.raises(ValueError, match="can't contain newlines"):
            a_mail("ann@example.com", **options).send()

        assert stack.depth() == 0

    def test_no_address_is_in_a_header_of_the_message(self, runtime, server):
        a_mail("ann@example.com").send()

        [message] = runtime.receive()
        assert "ann@example.com" not in str(runtime.envelope(message)["headers"])

    def test_what_aws_refuses_is_raised_or_silent(self, runtime, server, faults):
        for operation in ("SendMessage", "SendMessageBatch"):
            faults.fail(runtime.settings, "sqs", operation, "AccessDenied", status=403)

        with pytest.raises(PublishError):
            a_mail("ann@example.com").send()
        assert a_mail("ann@example.com").send(fail_silently=True) == 0

    def test_what_cannot_travel_is_raised_although_silent(self, runtime, server):
        message = a_mail("ann@example.com")
        message.reader = object()

        with pytest.raises(UnsupportedMailError, match="attribute reader"):
            message.send(fail_silently=True)

    def test_a_large_attachment_is_uploaded_once(self, runtime, server, stack):
        mails = [
            a_mail(f"{n}@example.com", attachments=[("a.pdf", PDF, "application/pdf")])
            for n in range(3)
        ]

        for each in mails:
            each.send()

        objects = stack.s3.list_objects_v2(Bucket=runtime.settings.payload_bucket)["Contents"]
        assert [each["Size"] for each in objects] == [len(PDF)]
        assert runtime.deliver(3).all_deleted
        for _, parsed in server.taken:
            [attachment] = parsed.iter_attachments()
            assert attachment.get_content() == PDF

    def test_an_attachment_that_is_gone_parks_its_mail_alone(self, runtime, server, stack):
        a_mail("ann@example.com", attachments=[("a.pdf", PDF, "application/pdf")]).send()
        bucket = runtime.settings.payload_bucket
        [found] = stack.s3.list_objects_v2(Bucket=bucket)["Contents"]
        stack.s3.delete_object(Bucket=bucket, Key=found["Key"])
        a_mail("bob@example.com").send()

        answer = runtime.deliver(2)

        assert [to for [to], _ in server.taken] == ["bob@example.com"]
        assert len(answer.failed) == 1  # until its attempts are used up

    def test_a_mail_of_a_transaction_is_published_at_its_commit(self, runtime, server, stack):
        backend = mail.get_connection(on_commit=True)
        with pytest.raises(LookupError), transaction.atomic():
            assert backend.send_messages([a_mail("rolled-back@example.com")]) == 1
            raise LookupError

        with transaction.atomic():
            assert backend.send_messages([a_mail("ann@example.com")]) == 1
            assert stack.depth() == 0

        assert runtime.deliver().all_deleted
        assert [to for [to], _ in server.taken] == ["ann@example.com"]

    def test_a_template_is_rendered_where_the_mail_is_delivered(self, runtime, server):
        context = {"name": "Ann", "when": datetime(2026, 1, 1, tzinfo=UTC)}
        render_later(
            "mail.txt", context, html_template="mail.html", subject="s", to=["ann@example.com"]
        ).send()

        [message] = runtime.receive()
        assert "Yes" not in str(base64.b64decode(runtime.envelope(message)["body"]))
        runtime.hand_over([message])

        [(_, parsed)] = server.taken
        text, html = parsed.get_body("plain"), parsed.get_body("html")
        assert text.get_content().strip() == "Yes, Ann in 2026"
        assert html.get_content().strip() == "<p>Ann</p>"

    @pytest.mark.parametrize("fork", [False, True], ids=["django-celery-email", "its fork"])
    def test_what_django_celery_email_has_published_is_delivered(self, runtime, server, web, fork):
        pdf = MIMEApplication(b"%PDF", "pdf", Name="a.pdf")
        attachments = [["a.txt", base64.b64encode("ä".encode()).decode(), "text/plain"]]
        if fork:
            attachments.append({"mime": base64.b64encode(pdf.as_bytes()).decode()})
        forms = [
            {
                "subject": "Hello", "body": "b", "from_email": "f@example.com",
                "to": [f"{n}@example.com"],
                "bcc": [], "cc": [], "reply_to": [], "headers": {}, "content_subtype": "html",
                "attachments": attachments,
            }
            for n in range(3)
        ]  # fmt: skip
        web.send_task("djcelery_email_send_multiple", [forms, {}])
        runtime.deliver()

        assert runtime.deliver(3).all_deleted

        assert sorted(to for [to], _ in server.taken) == [f"{n}@example.com" for n in range(3)]
        for _, parsed in server.taken:
            body, text, *rest = parsed.iter_parts()
            assert body.get_content_type() == "text/html"
            assert text.get_content().strip() == "ä"
            assert len(rest) == fork

    @pytest.mark.parametrize(
        "send",
        [
            lambda: send_mail("s", "b", "f@example.com", ["ann@example.com"]),
            lambda: tasks.send_emails([{"subject": "s", "body": "b", "to": ["ann@example.com"]}]),
        ],
        ids=["a task", "what django-celery-email has published"],
    )
    def test_a_task_that_runs_again_after_a_crash_sends_its_mails_once(self, runtime, server, send):
        for _ in range(2):
            with Running(RunningCall("4f1f0f0e", "the mark of its message")):
                send()
                send()

        assert runtime.deliver(4).all_deleted

        assert len(server.taken) == 2  # as often as each run has sent it
        assert len({parsed["Message-ID"] for _, parsed in server.taken}) == 2


class TestDelivery:
    def test_connections_are_kept_between_mails(self, runtime, server):
        for n in range(3):
            a_mail(f"{n}@example.com").send()
            runtime.deliver()

        assert len(server.taken) == 3
        assert server.connections == 1

    def test_a_server_that_is_busy_is_asked_again(self, runtime, server):
        server.answers = ["451 4.3.2 busy"]
        a_mail("ann@example.com").send()
        runtime.deliver()
        assert server.taken == []

        runtime.deliver()

        assert len(server.taken) == 1

    def test_a_mail_that_is_refused_for_good_is_parked(self, runtime, server, stack):
        server.answers = ["550 5.1.1 no such mailbox"]
        a_mail("ann@example.com").send()
        a_mail("bob@example.com").send()

        runtime.deliver(2)

        assert len(server.taken) == 1
        assert len(stack.dead_letters()) == 1

    def test_a_server_that_is_away_for_long_parks_nothing(
        self, runtime, server, monkeypatch, stack
    ):
        monkeypatch.setattr(delivery, "_RETRIES", 0)
        monkeypatch.setattr(breaker, "_FIRST_SECONDS", 0.5)
        a_mail("ann@example.com").send()
        with override_settings(EMAIL_PORT=1):
            for _ in range(2):
                runtime.deliver()

        while not server.taken:
            runtime.deliver()

        assert stack.dead_letters() == []

    def test_one_mail_that_closes_its_mailer_again_and_again_is_parked_alone(
        self, runtime, server, monkeypatch, stack
    ):
        monkeypatch.setattr(delivery, "_RETRIES", 0)
        monkeypatch.setattr(breaker, "_FIRST_SECONDS", 0.5)
        server.of_recipients = {"ann@example.com": "530 5.7.0 not from this sender"}
        a_mail("ann@example.com").send()
        runtime.deliver()

        parked: list[Any] = []
        while not parked:
            a_mail("bob@example.com").send()
            runtime.deliver(2)
            parked = stack.dead_letters()

        assert len(parked) == 1
        assert {to for [to], _ in server.taken} == {"bob@example.com"}
        assert mailers(runtime, stack) == []

    def test_a_back_end_that_would_drop_a_mail_without_a_word_raises(self, runtime, server):
        server.answers = ["550 5.1.1 no such mailbox"]
        made = options.make_delivery(None, {"fail_silently": True})

        with pytest.raises(smtplib.SMTPDataError):
            made.send_messages([a_mail("ann@example.com")])

    def test_a_recipient_who_is_refused_does_not_send_it_to_the_others_again(
        self, runtime, server, stack
    ):
        server.of_recipients = {"bob@example.com": "450 4.2.1 try later"}
        a_mail("ann@example.com", "bob@example.com", cc=["cy@example.com"]).send()
        runtime.deliver()
        server.of_recipients = {}

        runtime.deliver()

        assert [to for to, _ in server.taken] == [
            ["ann@example.com", "cy@example.com"],
            ["bob@example.com"],
        ]
        assert server.taken[1][1]["To"] == "ann@example.com, bob@example.com"
        assert server.taken[0][1]["Message-ID"] == server.taken[1][1]["Message-ID"]

    def test_a_rate_that_is_exceeded_spends_no_attempt(self, runtime, server, monkeypatch):
        monkeypatch.setattr(delivery, "_RETRIES", 0)
        monkeypatch.setattr(delivery, "_TOO_FAST_SECONDS", (0, 0))
        server.answers = ["454 Throttling failure: Maximum sending rate exceeded."] * 3
        a_mail("ann@example.com").send()

        for _ in range(4):
            runtime.deliver()

        assert len(server.taken) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            "535 5.7.8 authentication failed",
            "454 Throttling failure: Daily message quota exceeded.",
        ],
        ids=["credentials", "quota"],
    )
    def test_a_mailer_that_is_closed_is_left_alone_and_its_mails_wait(
        self, runtime, server, monkeypatch, answer, stack
    ):
        monkeypatch.setattr(delivery, "_RETRIES", 0)
        monkeypatch.setattr(delivery, "_QUOTA_SECONDS", 2.0)
        monkeypatch.setattr(breaker, "_FIRST_SECONDS", 2.0)
        server.answers = [answer]
        for name in ("ann", "bob", "cy"):
            a_mail(f"{name}@example.com").send()

        runtime.deliver(3)
        assert server.taken == []
        assert server.answers == []  # asked by one of them
        [state] = mailers(runtime, stack)
        assert answer[:3] in state["reason"]["S"] or answer[4:30] in state["reason"]["S"]
        while len(server.taken) < 3:
            runtime.deliver()

        assert sorted(to for [to], _ in server.taken) == [
            "ann@example.com",
            "bob@example.com",
            "cy@example.com",
        ]
        assert stack.dead_letters() == []
