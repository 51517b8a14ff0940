"""For ``INSTALLED_APPS``: tasks chosen by ``CELERY_LAMBDA_TASKS`` go to SQS."""

from lambda_celery.django.batch import batch_on_commit

__all__ = ["batch_on_commit"]
