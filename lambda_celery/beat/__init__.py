"""``beat_schedule`` as schedules of EventBridge Scheduler: plan, occurrences, expressions.

Scheduler's API belongs to :mod:`lambda_celery.schedules`. The main path enters at
:func:`~lambda_celery.beat.sync.plan`, for ``celery -A proj lambda schedule sync``.
"""
