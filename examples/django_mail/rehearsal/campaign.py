"""The producer's part: an announcement to every member, some of it sent twice."""

import base64
from collections.abc import Iterator

from announcements.models import Announcement, Member
from announcements.tasks import send_mail_task
from django.core.management import call_command

FILE_NAME = "programme.pdf"


class Campaign:
    """An announcement to a group of made-up members.

    :param repeat_every: one message in so many is sent twice.
    """

    def __init__(self, members: int, repeat_every: int, attachment: bytes) -> None:
        call_command("migrate", verbosity=0)
        Member.objects.bulk_create(
            Member(name=f"Member {n}", address=f"member-{n}@example.org") for n in range(members)
        )
        self.announcement = Announcement.objects.create(
            subject="Summer party", text="We meet on Saturday at noon, behind the boathouse."
        )
        self.repeat_every = repeat_every
        self.attachment = attachment
        #: Task id to address.
        self.enqueued: dict[str, str] = {}
        self.repeated: set[str] = set()
        self.attachment_task_id = ""

    def send(self) -> Iterator[str]:
        """Publish a task for every member, and yield its id."""
        later = []
        with_attachment = Member.objects.count() // 2
        for number, member in enumerate(Member.objects.iterator()):
            mail = self.announcement.mail_to(member)
            if number == with_attachment:
                mail["attachment"] = FILE_NAME, base64.b64encode(self.attachment).decode()
            task_id = send_mail_task.delay(**mail).id
            self.enqueued[task_id] = member.address
            if number == with_attachment:
                self.attachment_task_id = task_id
            # A producer that did not get SQS's answer sends the same message again, at
            # once: the two may run at the same time. A dead-letter queue that is sent
            # back does so later, when the first has long run.
            turn, remainder = divmod(number, self.repeat_every)
            if remainder == 0 and turn % 2 == 0:
                self._repeat(task_id, mail)
            elif remainder == 0:
                later.append((task_id, mail))
            yield task_id
        for task_id, mail in later:
            self._repeat(task_id, mail)

    def _repeat(self, task_id: str, mail: dict[str, object]) -> None:
        send_mail_task.apply_async(kwargs=mail, task_id=task_id)
        self.repeated.add(task_id)
