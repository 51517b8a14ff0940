"""EventBridge Scheduler: its API, and one-time schedules for what is far off.

What becomes of ``beat_schedule`` belongs to :mod:`lambda_celery.beat`. The main path enters at
:func:`~lambda_celery.schedules.one_time.create_one_time_schedule`.
"""
