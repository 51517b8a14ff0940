"""The task: calls every row of a slice of a CSV, in as many invocations as it takes."""

import asyncio
import logging
import os
from functools import partial
from typing import Any

import aiohttp

from million.app import app
from million.calling import Answer, Calling
from million.descriptors import fitting
from million.progress import Progress
from million.storage import Storage

logger = logging.getLogger(__name__)

SERVICE_VARIABLE = "MILLION_SERVICE_URL"
#: Together with a save it must fit into half the time reserve.
STOP_SECONDS_VARIABLE = "MILLION_STOP_SECONDS"
DEFAULT_STOP_SECONDS = 12.0
CALL_SECONDS = 10.0


@app.task(name="million.call_rows", bind=True, max_retries=None)
async def call_rows(
    self: Any, job: str, part: int, in_flight: int, parts: int = 1
) -> dict[str, Any]:
    """Call the rows of slice *part* of *job* that are not settled, *in_flight* at a time.

    Before the invocation's time runs out it saves where it is, and sends itself again.

    Arguments:
        job: what :func:`million.progress.begin` has begun.
        part: which of the job's slices.
        in_flight: calls at a time.
        parts: tasks at a time in this environment, for its file descriptors.
    """
    in_flight, sentence = fitting(in_flight, parts)
    if sentence is not None:
        logger.warning(sentence)
    progress = await asyncio.to_thread(lambda: Progress(Storage(), job, part))
    async with session(in_flight) as client:
        stop_seconds = float(os.environ.get(STOP_SECONDS_VARIABLE, DEFAULT_STOP_SECONDS))
        calling = Calling(partial(call_row, client), progress, stop_seconds)
        is_finished = await calling.run(in_flight)
    if not is_finished:
        raise self.retry(countdown=0)  # the same task id: to whom waits for it, it goes on
    return progress.summary()


def session(in_flight: int) -> aiohttp.ClientSession:
    """Return the client that all calls share, with a connection for each in flight."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=in_flight),
        timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        # Else each answer's cookies would be kept, and looked through for each call.
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def call_row(client: aiohttp.ClientSession, key: str, fields: list[str]) -> Answer:
    """Make the call of a row: yours is another one.

    Arguments:
        client: the shared client.
        key: the same whenever this row is called: the service may know it again.
        fields: the row's.
    """
    url = os.environ[SERVICE_VARIABLE] + fields[0]
    async with client.get(url, headers={"Idempotency-Key": key}) as answer:
        await answer.read()  # so that the connection can be used again
        after = answer.headers.get("Retry-After", "")
        return Answer(answer.status, float(after) if after.isdecimal() else 0.0)
