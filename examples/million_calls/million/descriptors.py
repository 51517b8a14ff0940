"""Whether as many connections as calls in flight fit into the limit of file descriptors."""

import os
import resource

#: For what else is opened meanwhile: requests to S3, SQS and DynamoDB, looked-up names, modules.
SPARE = 24


def fitting(in_flight: int, parts: int) -> tuple[int, str | None]:
    """Return how many of *in_flight* calls fit, and a sentence if these are not all.

    Lambda's limit of 1,024 is the environment's, which *parts* tasks at a time share.

    Raises:
        ValueError: not even one call fits.
    """
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(os.listdir("/proc/self/fd"))
    fit = limit // parts - in_use - SPARE
    if fit >= in_flight:
        return in_flight, None
    sentence = (
        f"{in_flight} calls in flight want a file descriptor each, but of {limit} for {parts} "
        f"task(s) at a time, with {in_use} in use and {SPARE} to spare, there are {fit}"
    )
    if fit < 1:
        raise ValueError(f"{sentence}: have fewer tasks at a time.")
    return fit, f"{sentence}: so many are made at a time."
