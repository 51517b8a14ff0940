"""For ``INSTALLED_APPS``: tasks chosen by ``CELERY_LAMBDA_TASKS`` go to SQS."""
