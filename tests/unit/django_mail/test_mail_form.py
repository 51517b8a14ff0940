"""A mail is the same before and after its journey."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from email.message import Message
from typing import Any

import pytest
from django.core.mail import EmailMessage

from lambda_celery.django.mail.form import mail_from_json, mail_to_json
from lambda_celery.exceptions import UnsupportedMailError
from tests.unit.django_mail.corpus import Newsletter, Tracked, by_hand, drawn

MAILS = [*by_hand(), *drawn(200)]
DATE = "Thu, 26 Nov 2026 10:00:00 +0000"


class Nowhere:
    """Contents that stay in the message."""

    def keep(self, content: bytes) -> dict[str, Any] | None:
        """Keep nothing."""
        return None

    def fetch(self, kept: Mapping[str, Any]) -> bytes:
        """Have nothing."""
        raise LookupError(kept)


class Elsewhere:
    """Contents that are kept apart, however small."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def keep(self, content: bytes) -> dict[str, Any] | None:
        """Keep *content* by its digest."""
        digest = hashlib.sha256(content).hexdigest()
        self.kept[digest] = content
        return {"sha256": digest}

    def fetch(self, kept: Mapping[str, Any]) -> bytes:
        """Return it."""
        return self.kept[kept["sha256"]]


def journey(mail: EmailMessage, contents: Any) -> EmailMessage:
    return mail_from_json(json.loads(json.dumps(mail_to_json(mail, contents))), contents)


def tree(part: Any) -> Any:
    """Return the MIME tree of *part*, without the boundaries, which are drawn each time."""
    headers = [
        (name, str(value))
        for name, value in part.items()
        if not part.is_multipart() or name != "Content-Type"
    ]
    payload = part.get_payload()
    if isinstance(payload, list):
        return headers, part.get_content_type(), [tree(each) for each in payload]
    return headers, part.get_content_type(), payload


def text_of(mail: EmailMessage) -> Message:
    headers = dict(mail.extra_headers)
    names = {name.lower() for name in headers}
    mail.extra_headers.update(
        {
            n: v
            for n, v in (("Date", DATE), ("Message-ID", "<m@example.com>"))
            if n.lower() not in names
        }
    )
    try:
        return mail.message()
    finally:
        mail.extra_headers = headers


@pytest.mark.parametrize("contents", [Nowhere(), Elsewhere()], ids=["in the message", "apart"])
@pytest.mark.parametrize("mail", MAILS, ids=lambda mail: str(mail.subject)[:20] or "-")
def test_a_mail_is_whole(mail, contents):
    after = journey(mail, contents)

    assert type(after) is type(mail)
    assert tree(text_of(after)) == tree(text_of(mail))
    assert after.recipients() == mail.recipients()
    assert set(vars(after)) == set(vars(mail))


def test_the_attributes_of_packages_are_what_they_were():
    [mail] = [each for each in by_hand() if hasattr(each, "esp_extra")]

    after = journey(mail, Nowhere())

    for name in ("tags", "metadata", "merge_data", "esp_extra", "track_clicks"):
        assert getattr(after, name) == getattr(mail, name)
        assert type(getattr(after, name)) is type(getattr(mail, name))


def test_the_sender_of_whoever_sends_travels(settings_of_the_function):
    mail = EmailMessage("s", "b", to=["a@example.com"])

    form = mail_to_json(mail, Nowhere())
    settings_of_the_function(DEFAULT_FROM_EMAIL="function@example.com")

    assert mail_from_json(form, Nowhere()).from_email == "default@example.com"


def test_a_state_that_is_not_set_needs_not_travel():
    assert (
        journey(Tracked("s", "b", "f@example.com", ["a@example.com"]), Nowhere()).status.status
        is None
    )


def test_what_cannot_travel_is_named():
    mail = Newsletter(1, ["a@example.com"])
    mail.reader = object()

    with pytest.raises(
        UnsupportedMailError, match=r"attribute reader cannot travel.*builtins.object"
    ):
        mail_to_json(mail, Nowhere())


def test_a_class_that_cannot_be_imported_is_named():
    class Local(EmailMessage):
        pass

    with pytest.raises(UnsupportedMailError, match=r"Local cannot be imported.*top level"):
        mail_to_json(Local("s", "b", "f@example.com", ["a@example.com"]), Nowhere())


def test_a_class_that_is_no_mails_is_refused():
    form = {"class": "subprocess.Popen", "attributes": {"args": ["true"]}}

    with pytest.raises(UnsupportedMailError, match="no class of Django's mails"):
        mail_from_json(form, Nowhere())
