"""For the tests of projects: the queue in this process, and the real handler behind it.

Nothing of it is imported by what runs on AWS. The main path enters at
:class:`~lambda_celery.testing.queue.LambdaCeleryQueue`, by the fixture of
``lambda_celery_pytest`` or the mix-in of :mod:`~lambda_celery.testing.mixin`.

AWS is stood in for by the events of a boto3 session (:mod:`~lambda_celery.testing.aws`): botocore
checks each request as ever, and raises its own exceptions. SQS, DynamoDB and S3 answer from
memory, as far as this project asks them. Neither moto nor ministack has a clock that a test can
move on, or can lose a process's writes and deliver a message twice, which is what such tests are
about; and each is a large dependency of tests that need three services.
"""

try:
    from lambda_celery.testing.messages import Message
    from lambda_celery.testing.mixin import LambdaCeleryTestMixin
    from lambda_celery.testing.queue import LambdaCeleryQueue, Outcome
except ModuleNotFoundError as exc:  # what the function has, and a web process may not
    raise ModuleNotFoundError(
        f"The queue for tests needs {exc.name}: pip install 'lambda-celery[testing]'.",
        name=exc.name,
    ) from None

__all__ = ["LambdaCeleryQueue", "LambdaCeleryTestMixin", "Message", "Outcome"]
