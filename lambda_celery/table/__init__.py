"""What both sides know of the idempotency table: schema, keys, own keys, revocations.

How a publication is claimed belongs to :mod:`lambda_runtime.table`, for only the function claims.
Everything begins with the names in :mod:`lambda_celery.table.schema`.
"""
