"""Sub-commands of ``celery``: ``celery -A proj lambda …``, one module each.

What a command does belongs to the package that it is about: here are its options, and its
sentences. The main path enters at :data:`lambda_command`, which ``celery.commands`` names.
"""

from lambda_celery.cli.group import lambda_command

__all__ = ["lambda_command"]
