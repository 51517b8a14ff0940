"""What became of the mails, as the mail server saw it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SERVER = Path(__file__).with_name("smtp_server.py")


@dataclass(frozen=True)
class Mail:
    """One mail that the server was handed."""

    recipient: str
    #: Whom its header names.
    to: str
    message_id: str
    process_id: int
    attachment_bytes: int
    at_seconds: float


class SmtpSink:
    """Runs the mail server, and keeps its account of every mail. A context manager.

    :param busy_every: the first mail to one in so many recipients is answered with 451.
    :param refuse_for_good: recipients whose mails are never accepted.
    """

    host = "127.0.0.1"

    def __init__(self, busy_every: int, refuse_for_good: Iterable[str] = ()) -> None:
        self._command = [sys.executable, str(SERVER), "--busy-every", str(busy_every)]
        self._command += ["--refuse-for-good", *refuse_for_good]
        self.accepted: list[Mail] = []
        self.refused: list[Mail] = []
        self.on_accepted: Callable[[Mail], None] = lambda _: None
        self._arrived: set[str] = set()

    def __enter__(self) -> "SmtpSink":
        # A session of its own, so that Ctrl-C reaches this process alone, which then ends
        # the server in its turn.
        self._server = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._server.stdout is not None
        self.port: int = json.loads(self._server.stdout.readline())["port"]
        self._reader = threading.Thread(target=self._read, args=[self._server.stdout], daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; its account is complete then."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._reader.join()
        self._server.wait()

    @property
    def arrived(self) -> int:
        """How many recipients have had a mail accepted, however many times."""
        return len(self._arrived)

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            report = json.loads(line)
            accepted = report.pop("accepted")
            mail = Mail(**report, at_seconds=time.monotonic())
            if not accepted:
                self.refused.append(mail)
                continue
            self.accepted.append(mail)
            self._arrived.add(mail.recipient)
            self.on_accepted(mail)
