"""The Celery app. The environment names its queue and its table (docs/configuration.md)."""

from celery import Celery

import lambda_celery

app = Celery("million", broker="sqs://", include=["million.tasks"], set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    lambda_tasks=["million.*"],
    # The end of an invocation in which calls under way end, and the position is saved. It is a
    # fifth of the function's time-out at most.
    lambda_time_reserve_seconds=30,
)
lambda_celery.install(app)
