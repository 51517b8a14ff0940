"""``celery -A proj lambda check --deployed``: what is on AWS, compared with what must be.

Here belongs what is read from AWS and compared; how large a figure must be is said by
:mod:`lambda_celery.infrastructure.computed`. The main path enters at
:meth:`~lambda_celery.check.deployed.deployment.Deployed.of`; the modules in ``rules`` compare.
Nothing is changed on AWS.
"""
