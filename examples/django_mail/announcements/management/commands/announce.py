from django.core.management.base import BaseCommand, CommandParser

from announcements.models import Announcement, Member
from announcements.tasks import send_mail_task


class Command(BaseCommand):
    help = "Mail an announcement to every member, one task each."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("subject")
        parser.add_argument("text")

    def handle(self, *, subject: str, text: str, **options: object) -> None:
        announcement = Announcement.objects.create(subject=subject, text=text)
        sent = 0
        for member in Member.objects.iterator():
            send_mail_task.delay(**announcement.mail_to(member))
            sent += 1
        self.stdout.write(f"Sent {sent} tasks to the queue.")
