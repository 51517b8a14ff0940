"""The model by which Django's permissions and its admin know of failed tasks. It has no table."""

from __future__ import annotations

from django.db import models


class _NoRows(models.Manager):
    """Finds nothing, and asks no database: ``dumpdata`` reads each model."""

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().none()


class FailedTask(models.Model):
    """A failed task, as permissions and the admin's log name it.

    ``view`` lets somebody look, ``change`` send back and send again, ``delete`` discard.
    """

    id = models.CharField(primary_key=True, max_length=200)
    #: Its name and the task's id.
    name = models.CharField(max_length=2000)

    objects = _NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change", "delete")
        verbose_name = "failed task"

    def __str__(self) -> str:
        return str(self.name or self.id)
