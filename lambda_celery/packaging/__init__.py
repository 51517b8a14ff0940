"""Builds what is deployed: ``celery -A proj lambda package``.

Here is the deployment zip: its requirements, its files, its checks, its sizes, and the trial
that runs a message through it. What it is deployed into belongs to the infrastructure. The main
path enters at :func:`lambda_celery.packaging.build.build`.
"""
