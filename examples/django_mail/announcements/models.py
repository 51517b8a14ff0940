from django.core.mail import EmailMessage
from django.db import models
from django.template.loader import render_to_string


class Member(models.Model):
    """Somebody who is in the group."""

    name = models.CharField(max_length=100)
    address = models.EmailField(unique=True)

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>"


class Announcement(models.Model):
    """Something that the whole group is told."""

    subject = models.CharField(max_length=200)
    text = models.TextField()

    def __str__(self) -> str:
        return self.subject

    def mail_to(self, member: Member) -> EmailMessage:
        """Return the mail that tells *member* of this announcement."""
        context = {"name": member.name, "text": self.text}
        return EmailMessage(
            subject=self.subject,
            body=render_to_string("announcements/mail.txt", context),
            to=[member.address],
        )
