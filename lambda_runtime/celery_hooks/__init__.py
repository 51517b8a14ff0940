"""All contact with private parts of Celery and Django on the function's side.

Each has a contract test. What becomes of a failure does not belong here: see
:mod:`lambda_runtime.running`. The main path enters at
:func:`~lambda_runtime.celery_hooks.bootstrap.start`, at cold start.
"""
