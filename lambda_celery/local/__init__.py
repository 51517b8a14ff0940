"""Run the deployed handler without AWS: ``celery -A proj lambda local``.

Only SQS, S3 and DynamoDB are emulated (by ministack). The event source mapping
that polls the queue and the Lambda Runtime API are ours, and as strict as AWS
documents them; the handler runs under AWS's own runtime client, ``awslambdaric``.
"""
