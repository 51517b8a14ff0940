"""The one definition of what a project needs on AWS, and the forms that it is written in.

Here belongs what infrastructure there is, and how large each figure is. Building the function's
zip, and comparing with what is deployed, do not. The main path enters at
:class:`~lambda_celery.infrastructure.inputs.Deployment`, goes by
:mod:`~lambda_celery.infrastructure.computed` to
:func:`~lambda_celery.infrastructure.resources.resources`, and ends in one of ``forms``, or in
:mod:`~lambda_celery.infrastructure.cdk`, which is imported by name alone.
"""
