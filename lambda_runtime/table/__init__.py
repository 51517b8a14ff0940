"""What the function writes to the idempotency table: claims, in groups, and rate limits.

Key prefixes and attribute names belong to :mod:`lambda_celery.table.schema`. The main path enters
at :meth:`IdempotencyTable.claim <lambda_runtime.table.claims.IdempotencyTable.claim>`.
"""
