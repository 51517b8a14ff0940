"""Begins a deployment: ``celery -A proj lambda init``.

Here is what is read of the app, what becomes of ``pyproject.toml``, of the settings and of the
files that are there already, and how all of it is written, or nothing. What the files say belongs
to the infrastructure's forms. The main path enters at :func:`lambda_celery.init.draft.draft`.
"""
