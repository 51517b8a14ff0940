"""For the tests of projects: the queue in this process, and the real handler behind it.

Nothing of it is imported by what runs on AWS. The main path enters at
:class:`~lambda_celery.testing.queue.LambdaCeleryQueue`, by the fixture of
``lambda_celery_pytest`` or the mix-in of :mod:`~lambda_celery.testing.mixin`.

AWS is stood in for by the events of a boto3 session (:mod:`~lambda_celery.testing.aws`): botocore
checks each request as ever, and raises its own exceptions. SQS, DynamoDB and S3 answer from
memory, as far as this project asks them. An emulator would have to be told of a clock, of lost
processes and of second deliveries, which is what such tests are about; moto's conditional writes
are not atomic, and an emulator's process, or the import of it, costs more than all the tests of a
small project.
"""

from lambda_celery.testing.messages import Message
from lambda_celery.testing.mixin import LambdaCeleryTestMixin
from lambda_celery.testing.queue import LambdaCeleryQueue, Outcome

__all__ = ["LambdaCeleryQueue", "LambdaCeleryTestMixin", "Message", "Outcome"]
