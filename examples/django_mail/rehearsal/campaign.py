"""The producer's part: an announcement to every member, some of the mails sent twice."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from announcements.models import Announcement, Member
from announcements.tasks import report_task
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.management import call_command

FILE_NAME = "programme.pdf"
#: How many mails have the attachment.
WITH_ATTACHMENT = 3
#: The Celery queue from which is taken what is sent twice: nothing consumes it.
QUEUE_OF_COPIES = "copies"
#: How many mails are sent together, so that the bar moves.
TOGETHER = 200


class Campaign:
    """An announcement to a group of made-up members.

    :param repeat_every: one message in so many is sent twice.
    """

    def __init__(
        self,
        members: int,
        repeat_every: int,
        attachment: bytes,
        *,
        sqs: Any,
        queue_url: str,
        copies_url: str,
    ) -> None:
        call_command("migrate", verbosity=0)
        Member.objects.bulk_create(
            Member(name=f"Member {n}", address=f"member-{n}@example.org") for n in range(members)
        )
        self.announcement = Announcement.objects.create(
            subject="Summer party", text="We meet on Saturday at noon, behind the boathouse."
        )
        self.repeat_every = repeat_every
        self.attachment = attachment
        self.sqs = sqs
        self.queue_url = queue_url
        self.copies_url = copies_url
        #: To whom a mail was sent.
        self.enqueued: set[str] = set()
        self.repeated: set[str] = set()
        self.with_attachment: set[str] = set()
        #: To whom the task reports.
        self.report_to = settings.DEFAULT_FROM_EMAIL

    def send(self) -> Iterator[str]:
        """Send a mail to every member, and yield the addresses; then the task that reports."""
        later = []
        to_all = get_connection()
        mails = enumerate(self._mails())
        while some := list(islice(mails, TOGETHER)):
            to_all.send_messages([mail for n, mail in some if n % self.repeat_every])
            for number, mail in some:
                turn, remainder = divmod(number, self.repeat_every)
                if remainder == 0:
                    # A producer that did not get SQS's answer sends the same message again, at
                    # once: the two may run at the same time. A dead-letter queue that is sent
                    # back does so later, when the first has long run.
                    copy = self._send_and_copy(mail)
                    if turn % 2 == 0:
                        self._send(copy)
                    else:
                        later.append(copy)
                    self.repeated.add(mail.to[0])
                self.enqueued.add(mail.to[0])
                yield mail.to[0]
        for copy in later:
            self._send(copy)
        report_task.delay(self.announcement.subject, sorted(self.enqueued))

    def _mails(self) -> Iterator[EmailMessage]:
        """Yield the mail to each member; some in the middle have the attachment."""
        first = Member.objects.count() // 2
        for number, member in enumerate(Member.objects.iterator()):
            mail = self.announcement.mail_to(member)
            if first <= number < first + WITH_ATTACHMENT:
                mail.attach(FILE_NAME, self.attachment, "application/pdf")
                self.with_attachment.add(member.address)
            yield mail

    def _send_and_copy(self, mail: EmailMessage) -> str:
        """Send *mail*, and return the body of its message."""
        get_connection(queue=QUEUE_OF_COPIES).send_messages([mail])
        answer = self.sqs.receive_message(QueueUrl=self.copies_url, WaitTimeSeconds=10)
        [message] = answer["Messages"]
        self.sqs.delete_message(QueueUrl=self.copies_url, ReceiptHandle=message["ReceiptHandle"])
        self._send(message["Body"])
        return str(message["Body"])

    def _send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)
