"""The forms of the definition: each module turns a deployment into the text of files.

Here belongs how CloudFormation, SAM or Terraform say it. What is said is
:mod:`~lambda_celery.infrastructure.resources`'. The main path enters at each module's ``files``.
"""
