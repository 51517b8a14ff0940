"""``celery -A proj lambda status``: what the queues and the functions of the app do just now.

Here belong the figures of operation: read from AWS by :mod:`~lambda_celery.status.gathering`,
computed by :mod:`~lambda_celery.status.figures`, drawn by :mod:`~lambda_celery.status.screen`.
Nothing is changed on AWS. The main path enters at
:meth:`~lambda_celery.status.gathering.Gatherer.gather`.
"""
