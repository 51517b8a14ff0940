"""For ``INSTALLED_APPS``: tasks chosen by ``CELERY_LAMBDA_TASKS`` go to SQS."""

from lambda_celery.django.on_commit import batch_on_commit

__all__ = ["batch_on_commit"]
