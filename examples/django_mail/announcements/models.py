from typing import Any

from django.db import models


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

    def mail_to(self, member: Member) -> dict[str, Any]:
        """Return the arguments of the task that mails this announcement to *member*."""
        return {
            "name": member.name,
            "address": member.address,
            "subject": self.subject,
            "text": self.text,
        }
