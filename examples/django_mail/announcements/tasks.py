from collections import Counter

from django.conf import settings
from django.core.mail import send_mail

from lambda_celery import task


@task
def report_task(subject, addresses):
    """Mail the sender of an announcement how many members it went to, by their mail domains.

    The task asks no database: a burst of tasks would open as many connections as there are
    Lambda environments. Its own mail is a message of the queue, too: if the task runs again
    after a crash, the mail is still sent once.
    """
    domains = Counter(address.rpartition("@")[2] for address in addresses)
    lines = [f"{count:>8,} {domain}" for domain, count in domains.most_common()]
    send_mail(
        subject=f"Sent to {len(addresses):,} members: {subject}",
        message="\n".join(lines),
        from_email=None,
        recipient_list=[settings.DEFAULT_FROM_EMAIL],
    )
