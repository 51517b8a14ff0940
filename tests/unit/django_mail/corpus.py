"""Mails as people and packages make them: those with a point, and many that were drawn."""

from __future__ import annotations

import email.policy
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from email.charset import QP, Charset
from email.message import EmailMessage as PythonMessage
from email.message import Message, MIMEPart
from email.mime.application import MIMEApplication
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from typing import Any

import django
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.translation import gettext_lazy

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fcff9f"
    "a11e000782027f3dc848ef0000000049454e44ae426082"
)
#: Django 7.0 takes MIMEPart alone; before 6.0 it takes what is of MIMEBase alone.
HAS_PARTS = django.VERSION >= (6, 0)


class Newsletter(EmailMultiAlternatives):
    """A mail with a constructor of its own, and with a header that it makes itself."""

    def __init__(self, issue: int, to: list[str]) -> None:
        super().__init__(f"Issue {issue}", "News.", "news@example.com", to)
        self.issue = issue

    def message(self, *args: Any, **kwargs: Any) -> Any:
        """Return the MIME text, with the issue's number."""
        made = super().message(*args, **kwargs)
        made["X-Issue"] = str(self.issue)
        return made


class Tracked(EmailMessage):
    """A mail with a state that is no text, until it was sent."""

    class Status:
        """What a provider has said."""

        def __init__(self) -> None:
            self.status: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.status = Tracked.Status()


def by_hand() -> Iterator[EmailMessage]:
    """Yield the mails with a point."""
    to = ["ann@example.com"]
    yield EmailMessage("Hello", "A text.", "from@example.com", to)
    yield EmailMessage("", "", "from@example.com", to)
    yield EmailMessage("Hello", "No sender is named.", to=to)
    yield EmailMessage(
        "Größe — 日本語 🎉", "Schöne Grüße\n🎉", "Käthe <k@example.com>", ["Jörg <j@example.com>"]
    )
    yield EmailMessage("Hello", "", "from@example.com", ["ann@exämple.com"])
    yield EmailMessage("Hello", "x" * 5000, "from@example.com", to)
    yield EmailMessage("Hello", "From here on.\n.\nFrom there.\r\nend\r", "from@example.com", to)
    yield EmailMessage(gettext_lazy("Yes"), "lazy", "from@example.com", to)
    yield EmailMessage(
        "s",
        "b",
        "f@example.com",
        to,
        cc=["c@example.com"],
        bcc=["b@example.com"],
        reply_to=["r@example.com", "Ré <r2@example.com>"],
    )
    yield EmailMessage("s", "b", "f@example.com", [], bcc=["b@example.com"])
    yield EmailMessage(
        "s",
        "b",
        "f@example.com",
        to,
        headers={
            "X-Own": "1",
            "List-Unsubscribe": "<mailto:u@example.com>",
            "Message-ID": "<one@example.com>",
            "From": "Other <o@example.com>",
            "To": "list@example.com",
        },
    )
    html = EmailMessage("s", "<p>b</p>", "f@example.com", to)
    html.content_subtype = "html"
    yield html
    latin = EmailMessage("s", "Grüße", "f@example.com", to)
    latin.encoding = "iso-8859-1"
    yield latin
    both = EmailMultiAlternatives("s", "text", "f@example.com", to)
    both.attach_alternative("<p>hü</p>", "text/html")
    both.attach_alternative("BEGIN:VCALENDAR\nEND:VCALENDAR", "text/calendar")
    yield both
    only = EmailMultiAlternatives("s", "", "f@example.com", to)
    only.attach_alternative("<p>no text</p>", "text/html")
    yield only
    binary = EmailMultiAlternatives("s", "t", "f@example.com", to)
    binary.attach_alternative(b"\x00\x01", "application/x-own")
    yield binary
    files = EmailMessage("s", "b", "f@example.com", to)
    files.attach("größe.txt", "täxt", "text/plain")
    files.attach("a.pdf", b"%PDF-1.4\x00\xff", "application/pdf")
    files.attach("guess.csv", "a;b\r\n1;2\r\n")
    files.attach("latin.txt", "Grüße".encode("latin-1"), "text/plain")
    files.attach(None, b"no name", "application/octet-stream")
    files.attach("empty.bin", b"", "application/octet-stream")
    yield files
    yield EmailMessage(
        "s", "b", "f@example.com", to, attachments=[("t.txt", "x", "text/plain"), ("t.bin", b"x")]
    )
    inner = EmailMessage(
        "inner",
        "innen ü",
        "i@example.com",
        ["j@example.com"],
        headers={"Message-ID": "<in@example.com>", "Date": "Thu, 26 Nov 2026 10:00:00 +0000"},
    )
    inner.attach("in.bin", b"\x01", "application/octet-stream")
    forwarded = EmailMessage("s", "b", "f@example.com", to)
    forwarded.attach("inner.eml", inner, "message/rfc822")
    yield forwarded
    python = PythonMessage()
    python["Subject"] = "ünter"
    python["From"] = "p@example.com"
    python.set_content("Grüße\n")
    forwarded = EmailMessage("s", "b", "f@example.com", to)
    forwarded.attach("python.eml", python, "message/rfc822")
    yield forwarded
    older = Message()
    older["Subject"] = "older"
    older.set_payload("text")
    forwarded = EmailMessage("s", "b", "f@example.com", to)
    forwarded.attach("older.eml", older, "message/rfc822")
    forwarded.attach("text.eml", b"Subject: text\n\nbody\n", "message/rfc822")
    yield forwarded
    inline = EmailMultiAlternatives("s", "t", "f@example.com", to)
    inline.attach_alternative('<img src="cid:logo">', "text/html")
    inline.attach(image())
    yield inline
    yield Newsletter(7, to)
    yield Tracked("s", "b", "f@example.com", to)
    own = EmailMultiAlternatives("s", "b", "f@example.com", to)
    own.tags = ["one", "two"]  # type: ignore[attr-defined]
    own.metadata = {"order": 7, "at": datetime(2026, 11, 26, tzinfo=UTC)}  # type: ignore[attr-defined]
    own.merge_data = {"ann@example.com": {"name": "Ann", "sum": Decimal("1.50")}}  # type: ignore[attr-defined]
    own.esp_extra = {"!odd": (1, 2), "deep": [{"x": None}]}  # type: ignore[attr-defined]
    own.track_clicks = True  # type: ignore[attr-defined]
    yield own
    if not HAS_PARTS:
        for part in (MIMEText("tëxt", "plain", "utf-8"), MIMEApplication(b"\x00" * 100), _base()):
            mail = EmailMessage("s", "b", "f@example.com", to)
            mail.attach(part)
            yield mail
        charset = Charset("utf-8")
        charset.body_encoding = QP
        quoted = EmailMessage("s", "Grüße", "f@example.com", to)
        quoted.encoding = charset  # type: ignore[assignment]
        yield quoted


def image() -> Any:
    """Return an inline image with a Content-ID, as the Django at hand takes it."""
    if HAS_PARTS:
        part = MIMEPart(policy=email.policy.default)
        part.set_content(
            PNG,
            maintype="image",
            subtype="png",
            disposition="inline",
            cid="<logo>",
            filename="lögo.png",
        )
        return part
    made = MIMEImage(PNG, "png")
    made.add_header("Content-ID", "<logo>")
    made.add_header("Content-Disposition", "inline", filename=("utf-8", "", "lögo.png"))
    return made


def _base() -> MIMEBase:
    part = MIMEBase("application", "x-own", name="own.bin")
    part.set_payload("c2VjcmV0\n")
    part["Content-Transfer-Encoding"] = "base64"
    part["Content-Description"] = "a long description " * 8
    return part


_WORDS = [
    "plain",
    "Größe",
    "日本語",
    "🎉",
    "a,b",
    '"quoted"',
    "tab\tbed",
    "=?utf-8?q?x?=",
    "-- ",
    ".",
    "From x",
]


def drawn(count: int, seed: int = 7) -> Iterator[EmailMessage]:
    """Yield *count* mails that are put together by chance, and are the same each time."""
    chance = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(chance.choices(_WORDS, k=chance.randint(0, most)))

    def address() -> str:
        name = chance.choice(["", "Ann", "Jörg Ö", "日本", '"A, B"'])
        host = chance.choice(["example.com", "exämple.org"])
        return (
            f"{name} <{chance.randint(0, 99)}@{host}>"
            if name
            else f"a{chance.randint(0, 9)}@{host}"
        )

    def addresses(most: int) -> list[str]:
        return [address() for _ in range(chance.randint(0, most))]

    for _ in range(count):
        kind = chance.choice([EmailMessage, EmailMultiAlternatives])
        mail = kind(
            words(6).replace("\t", " "),
            "\n".join(words(9) for _ in range(chance.randint(0, 20))),
            address(),
            [address(), *addresses(2)],
            cc=addresses(2),
            bcc=addresses(2),
            reply_to=addresses(1),
            headers={f"X-{n}": words(4).replace("\t", " ") for n in range(chance.randint(0, 3))},
        )
        if isinstance(mail, EmailMultiAlternatives):
            for _ in range(chance.randint(0, 2)):
                mail.attach_alternative(
                    f"<p>{words(5)}</p>", chance.choice(["text/html", "text/x-amp"])
                )
        for n in range(chance.randint(0, 3)):
            match chance.randint(0, 3):
                case 0:
                    mail.attach(
                        f"{n}.bin", chance.randbytes(chance.randint(0, 300)), "application/x-b"
                    )
                case 1:
                    mail.attach(f"{n} ü.txt", words(20), "text/plain")
                case 2:
                    mail.attach(image())
                case 3:
                    mail.attach(f"{n}.csv", words(5).encode(), None)
        yield mail
