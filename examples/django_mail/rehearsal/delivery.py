"""The back end that delivers in the demo: SMTP, with the sender's process on each mail."""

import os
from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends import smtp


class EmailBackend(smtp.EmailBackend):
    """Tells the mail server which process sends, since the demo kills one that has just sent."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for each in email_messages:
            each.extra_headers["X-Process-ID"] = str(os.getpid())
        return super().send_messages(email_messages)
