"""The producer's part: an announcement to every member, some of it sent twice."""

import base64
from collections.abc import Iterator
from typing import Any

from announcements.models import Announcement, Member
from announcements.tasks import send_mail_task
from django.core.management import call_command

FILE_NAME = "programme.pdf"
#: The Celery queue from which is taken what is sent twice: nothing consumes it.
QUEUE_OF_COPIES = "copies"


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
        #: Task id to address.
        self.enqueued: dict[str, str] = {}
        self.repeated: set[str] = set()
        self.attachment_task_id = ""

    def send(self) -> Iterator[str]:
        """Publish a task for every member, and yield its id."""
        later = []
        # None of those that are sent twice: the first run would delete the second's body.
        with_attachment = Member.objects.count() // 2 + 1
        for number, member in enumerate(Member.objects.iterator()):
            mail = self.announcement.mail_to(member)
            if number == with_attachment:
                mail["attachment"] = FILE_NAME, base64.b64encode(self.attachment).decode()
            turn, remainder = divmod(number, self.repeat_every)
            if remainder == 0:
                task_id = send_mail_task.apply_async(kwargs=mail, queue=QUEUE_OF_COPIES).id
                message = self._take()
                self._send(message)
                self.repeated.add(task_id)
                # A producer that did not get SQS's answer sends the same message again, at
                # once: the two may run at the same time. A dead-letter queue that is sent
                # back does so later, when the first has long run.
                if turn % 2 == 0:
                    self._send(message)
                else:
                    later.append(message)
            else:
                task_id = send_mail_task.delay(**mail).id
            self.enqueued[task_id] = member.address
            if number == with_attachment:
                self.attachment_task_id = task_id
            yield task_id
        for message in later:
            self._send(message)

    def _take(self) -> dict[str, Any]:
        """Return what was published last on the queue of copies, as SQS has it."""
        (message,) = self.sqs.receive_message(QueueUrl=self.copies_url, WaitTimeSeconds=10)[
            "Messages"
        ]
        self.sqs.delete_message(QueueUrl=self.copies_url, ReceiptHandle=message["ReceiptHandle"])
        return dict(message)

    def _send(self, message: dict[str, Any]) -> None:
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=message["Body"])
