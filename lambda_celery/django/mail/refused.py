"""The recipients that an SMTP server refuses while it takes the mail for others.

smtplib returns them, and Django's back end drops what it returns: the mail would be lost for them.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def noting_refused(backend: Any) -> Iterator[dict[str, tuple[int, bytes]]]:
    """Give the recipients that *backend*'s server refuses in the block, with its replies.

    Those of a mail that is refused for all are not among them: that is an exception.
    """
    refused: dict[str, tuple[int, bytes]] = {}
    connection = getattr(backend, "connection", None)
    if not isinstance(connection, smtplib.SMTP):
        yield refused
        return
    sendmail = connection.sendmail

    def noted(*args: Any, **kwargs: Any) -> Mapping[str, tuple[int, bytes]]:
        found: Mapping[str, tuple[int, bytes]] = sendmail(*args, **kwargs)
        refused.update(found)
        return found

    # Of this connection alone, and for the block.
    vars(connection)["sendmail"] = noted
    try:
        yield refused
    finally:
        vars(connection).pop("sendmail", None)
