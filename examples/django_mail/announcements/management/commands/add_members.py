from django.core.management.base import BaseCommand, CommandParser

from announcements.models import Member


class Command(BaseCommand):
    help = "Add made-up members, so that there is somebody to send to."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int)

    def handle(self, *, count: int, **options: object) -> None:
        Member.objects.bulk_create(
            (Member(name=f"Member {n}", address=f"member-{n}@example.org") for n in range(count)),
            ignore_conflicts=True,
        )
        self.stdout.write(f"The group has {Member.objects.count()} members.")
