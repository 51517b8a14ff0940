"""A mail server that keeps no mail: it writes down who got which, one JSON line each.

It is a process of its own, started by :mod:`rehearsal.smtp_sink`, and ends when its
standard input is closed.
"""

import argparse
import asyncio
import json
import sys
from email import message_from_bytes
from email.parser import BytesHeaderParser

from aiosmtpd.smtp import SMTP, Envelope, Session

# Parsing a whole message costs more than receiving it; only a mail of this size can
# carry the attachment.
LARGE_BYTES = 100_000


class Recorder:
    """Takes every mail, apart from those that it is asked to refuse."""

    def __init__(self, busy_every: int, refuse_for_good: frozenset[str]) -> None:
        self.busy_every = busy_every
        self.refuse_for_good = refuse_for_good
        self.recipients: set[str] = set()

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        recipient = envelope.rcpt_tos[0]
        if recipient in self.refuse_for_good:
            return "550 5.1.1 No such mailbox"
        busy = recipient not in self.recipients and self._is_turn(recipient)
        write(accepted=not busy, recipient=recipient, **facts(envelope.content))
        return "451 4.3.2 Busy, please try again later" if busy else "250 2.0.0 OK"

    def _is_turn(self, recipient: str) -> bool:
        """Whether this recipient's first mail is the one in so many that has to come again."""
        self.recipients.add(recipient)
        return len(self.recipients) % self.busy_every == 0


def facts(content: bytes) -> dict[str, object]:
    headers = BytesHeaderParser().parsebytes(content)
    attachment_bytes = 0
    if len(content) > LARGE_BYTES:
        attachment_bytes = sum(
            len(part.get_payload(decode=True))
            for part in message_from_bytes(content).walk()
            if part.get_content_disposition() == "attachment"
        )
    return {
        "to": headers["To"],
        "message_id": headers["Message-ID"].strip(),
        # Written by rehearsal.delivery, if that delivers.
        "process_id": int(headers.get("X-Process-ID", 0)),
        "attachment_bytes": attachment_bytes,
    }


def write(**line: object) -> None:
    print(json.dumps(line), flush=True)


async def serve(recorder: Recorder) -> None:
    loop = asyncio.get_running_loop()
    # A fixed name: aiosmtpd would ask the resolver for one at every connection.
    server = await loop.create_server(
        lambda: SMTP(recorder, hostname="localhost"), host="127.0.0.1", port=0
    )
    write(port=server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy-every", type=int, required=True)
    parser.add_argument("--refuse-for-good", nargs="*", default=[])
    options = parser.parse_args()
    asyncio.run(serve(Recorder(options.busy_every, frozenset(options.refuse_for_good))))
