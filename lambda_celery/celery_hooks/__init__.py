"""All contact with Celery's private parts on the app's side, each with a contract test.

And with the one of CPython's that is needed here.

What is decided with them does not belong here: it is handed in, or asks. The main path enters at
:class:`~lambda_celery.celery_hooks.amqp.SQSRouting`, by which every task message leaves.
"""
