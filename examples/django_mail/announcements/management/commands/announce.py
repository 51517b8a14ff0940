from django.core.mail import get_connection
from django.core.management.base import BaseCommand, CommandParser

from announcements.models import Announcement, Member
from announcements.tasks import report_task


class Command(BaseCommand):
    help = "Mail an announcement to every member, and a report to the sender."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("subject")
        parser.add_argument("text")

    def handle(self, *, subject: str, text: str, **options: object) -> None:
        announcement = Announcement.objects.create(subject=subject, text=text)
        members = list(Member.objects.all())
        # Not one send() each: the back end puts ten mails into a request to SQS.
        sent = get_connection().send_messages([announcement.mail_to(each) for each in members])
        report_task.delay(subject, [each.address for each in members])
        self.stdout.write(f"Sent {sent} mails and a task to the queue.")
