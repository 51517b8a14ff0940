"""Whether a task may start twice."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lambda_celery.check.bodies import Call
from lambda_celery.check.facts import Facts, TaskFacts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.django_doors import mailers_to_queue

_MAILS = (
    "django.core.mail.send_mail", "django.core.mail.send_mass_mail", "django.core.mail.mail_admins",
    "django.core.mail.mail_managers", "django.core.mail.*Email*().send",
    "*.EmailMessage().send", "*.EmailMultiAlternatives().send",
)  # fmt: skip
_SMTP = ("smtplib.*sendmail", "smtplib.*send_message")
_REQUESTS = tuple(
    f"{package}{verb}"
    for package in ("requests.", "requests.*().", "httpx.", "httpx.*().", "aiohttp.*().")
    for verb in ("post", "patch")
)
_PAYMENTS = ("stripe.*.create", "stripe.*.capture", "stripe.*.pay", "braintree.*.sale",
             "twilio.*.create", "twilio.*create", "slack_sdk.*.chat_postMessage",
             "boto3.*.send_email", "boto3.*.publish", "boto3.*.send_message")  # fmt: skip


@registry.rule("early-ack", "A task that must not start twice")
def early_ack(facts: Facts) -> Iterator[Finding]:
    """A task with `acks_late=False`, Celery's default, does what is not idempotent.

    Such as sending mail, a POST, a payment, `objects.create`, or counting up. On a worker such a
    task is lost when its process dies; here every task is acknowledged late. A failure is tried
    again although the task says nothing of retries. What has run to its end does not run
    again; the exception is a process that is killed between the work and its record. What must
    not start a second time says `reject_on_worker_lost=False`, and what must not be tried
    again after a failure `acks_on_failure_or_timeout=True`. Mail of Django's is none of it where
    `EMAIL_BACKEND` [sends it to the queue](django-mail.md): what a second run sends again is sent
    once. With an `idempotency_key`, or `acks_late=True`, the task says that it has thought of it.
    """
    is_mail_published = "default" in mailers_to_queue()
    for task in facts.tasks:
        if not _is_relied_upon(task):
            continue
        effects: dict[str, Call] = {}
        for _, call in task.calls:
            if is_mail_published and _is_mail(call):
                continue
            if (what := _effect(call)) and what not in effects:
                effects[what] = call
        for what, call in effects.items():
            yield task.finding(
                "early-ack",
                Grade.AMBER,
                f"{call.text}() {what}. On Lambda a task is acknowledged late: a process that is "
                "killed between the work and its record lets it run again, and a failure is "
                "tried again.",
                "Make it idempotent and say acks_late=True, or say reject_on_worker_lost=False: "
                "then it does not start a second time.",
                call.place,
            )


def _is_relied_upon(task: TaskFacts) -> bool:
    options = task.options
    return not (
        task.task.acks_late
        or options.get("idempotency_key") is not None
        or ("reject_on_worker_lost" in options and options["reject_on_worker_lost"] is False)
    )


def _is_mail(call: Call) -> bool:
    """Whether *call* sends a mail by Django's mail back end."""
    if call.matches(_MAILS):
        return True
    return (
        call.receiver is not None
        and call.attribute in ("send", "send_messages")
        and any(
            each in ast.unparse(call.receiver).lower()
            for each in ("email", "mail", "message", "msg")
        )
    )


def _effect(call: Call) -> str | None:
    if call.matches(_SMTP) or _is_mail(call):
        return "sends mail"
    if call.matches(_REQUESTS):
        return "sends a request that may not be repeated"
    if call.matches(_PAYMENTS):
        return "tells another service to do something"
    if call.receiver is not None:
        written = ast.unparse(call.receiver)
        if call.attribute in ("create", "bulk_create") and written.endswith(".objects"):
            return "creates a row"
        if call.attribute in ("incr", "decr", "incrby", "hincrby", "rpush", "lpush"):
            return "counts or queues in a store"
        if call.attribute == "update" and any(
            isinstance(node, ast.Call) and getattr(node.func, "id", "") == "F"
            for keyword in call.node.keywords
            for node in ast.walk(keyword.value)
        ):
            return "counts in the database"
    return None
