"""For the tests of projects: the queue in this process, and the real handler behind it.

Nothing of it is imported by what runs on AWS. The main path enters at
:class:`~lambda_celery.testing.queue.LambdaCeleryQueue`, by the fixture of
:mod:`~lambda_celery.testing.plugin` or the mix-in of :mod:`~lambda_celery.testing.mixin`.

AWS is stood in for by the events of a boto3 session (:mod:`~lambda_celery.testing.aws`): botocore
checks each request as ever, and raises its own exceptions. SQS, DynamoDB and S3 answer from
memory, as far as this project asks them. An emulator would have to be told of a clock, of lost
processes and of second deliveries, which is what such tests are about; moto's conditional writes
are not atomic, and an emulator's process, or the import of it, costs more than all the tests of a
small project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lambda_celery.testing.mixin import LambdaCeleryTestMixin

if TYPE_CHECKING:
    from lambda_celery.testing.queue import LambdaCeleryQueue, Message, Outcome

__all__ = ["LambdaCeleryQueue", "LambdaCeleryTestMixin", "Message", "Outcome"]


def __getattr__(name: str) -> Any:
    # pytest loads the plugin for all tests of an installation: boto3 only for those that use it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lambda_celery.testing import queue

    return getattr(queue, name)
