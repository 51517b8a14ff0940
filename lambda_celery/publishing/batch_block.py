"""``lambda_celery.batch()``: what its block publishes is held, and sent together at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lambda_celery.publishing.held_messages import HeldMessages, OnDropped, Progress, holding


def send_held(held: HeldMessages, progress: Progress | None = None) -> None:
    """Send what is *held*, or give it to the block around it, where one is open.

    :raises BatchPublishError: AWS did not take some of the messages.
    """
    messages = held.close_into_outer()
    if not messages:
        return
    from lambda_celery.publishing.bulk_sender import BulkSender  # loads boto3

    with BulkSender() as sender:
        if progress is not None:
            sender.report(progress, len(messages))
        for each in messages:
            sender.add(each)


@contextmanager
def batch(
    *, progress: Progress | None = None, on_dropped: OnDropped | None = None
) -> Iterator[None]:
    """Hold the messages that the block publishes to SQS, and send them together at its end.

    Everything that publishes tasks takes part: ``delay``, groups, chunks, chains, other
    people's code. Ten messages share a request, several requests run at a time, and
    bodies that are too big for SQS are uploaded side by side. FIFO queues get their messages in
    order, one request after the other. (But one that SQS refuses for a moment, out of ten, is
    sent again behind the others of its request.)

    If the block raises, nothing is sent. What took note of the calls is not told: the locks of
    celery-once and celery-singleton stay, and *on_dropped* is for those. (Celery's ``Retry``,
    ``Ignore`` and ``Reject`` are no failures: then it is sent. And a running task's own retry does
    not wait for the block's end.)

    A batch within a batch is part of it, and is sent by it. Only what is published in the
    block's own context takes part: not what threads do that it starts, but asyncio tasks and
    ``asyncio.to_thread``, as far as they publish before it ends. Sending blocks its thread.

    :param progress: called in this thread, as messages are sent, with how many are sent and how
        many there are. Within another batch, that one's is called.
    :param on_dropped: called with the ids of the tasks that are not sent, if the block raises.
        Those that AWS does not take are listed by the error.
    :raises BatchPublishError: AWS did not take some messages, although they were
        retried; it lists them. The others are sent.
    """
    with holding(lambda held: send_held(held, progress), on_dropped):
        yield
