"""How long it takes to enqueue many small tasks, and the CPU that each costs.

    python benchmarks/enqueue.py

A local stand-in for SQS, a process of its own, answers each request after 10 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

LATENCY_SECONDS = 0.010
#: What is sent one by one is measured with fewer tasks; its times are scaled up.
SCALE = 20


def answer_to(operation: str, request: dict[str, Any]) -> dict[str, Any]:
    if operation == "SendMessageBatch":
        return {"Successful": [{"Id": e["Id"], "MessageId": e["Id"]} for e in request["Entries"]]}
    if operation == "SendMessage":
        return {"MessageId": "1"}
    return {"Attributes": {"MaximumMessageSize": "1048576", "ApproximateNumberOfMessages": "0"}}


def serve(ready: Connection) -> None:
    """Answer SQS's JSON protocol on a free port, which *ready* is told."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                operation = fields["x-amz-target"].rpartition(".")[2]
                names = ("SendMessageBatch", "SendMessage", "GetQueueAttributes")
                name = next(each for each in names if each.lower() == operation)
                text = json.dumps(answer_to(name, json.loads(body)))
                await asyncio.sleep(LATENCY_SECONDS)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(text), text.encode())
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@dataclass(frozen=True)
class Way:
    name: str
    run: Callable[[int], object]
    scale: int = 1


def ways(port: int) -> list[Way]:
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="eu-west-1"
    )
    from celery import Celery

    import lambda_celery

    url = f"http://127.0.0.1:{port}/000000000000/mail"
    stock = Celery("stock", broker=f"sqs://test:test@127.0.0.1:{port}", set_as_current=False)
    stock.conf.broker_transport_options = {
        "region": "eu-west-1", "is_secure": False, "predefined_queues": {"celery": {"url": url}},
    }  # fmt: skip
    ours = Celery("ours", broker="amqp://guest@127.0.0.1:1//")
    ours.conf.update(
        lambda_queue_url=url,
        lambda_endpoint_url=f"http://127.0.0.1:{port}",
        lambda_region="eu-west-1",
        lambda_tasks=["*"],
    )
    lambda_celery.install(ours)

    def send(address: str, number: int) -> None:
        """It is only sent."""

    stock_send = stock.task(send, name="mail.send", shared=False)
    our_send = ours.task(send, name="mail.send", shared=False)
    calls = [(f"member{n}@example.org", n) for n in range(100_000)]

    def one_by_one(task: Any) -> Callable[[int], object]:
        return lambda count: [task.delay(*each) for each in calls[:count]]

    def batched(count: int) -> None:
        with lambda_celery.batch():
            one_by_one(our_send)(count)

    return [
        Way("Celery and kombu, delay()", one_by_one(stock_send), SCALE),
        Way("delay()", one_by_one(our_send), SCALE),
        Way("batch() around delay()", batched),
        Way("delay_many()", lambda count: lambda_celery.delay_many(our_send, calls[:count])),
    ]


def measure(way: Way, tasks: int) -> tuple[float, float]:
    """Return the seconds for *tasks*, and the CPU seconds for one."""
    count = tasks // way.scale
    wall, cpu = time.perf_counter(), time.process_time()
    way.run(count)
    return (time.perf_counter() - wall) * way.scale, (time.process_time() - cpu) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000, help="at most 100,000")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(sender,), daemon=True)
    server.start()
    all_ways = ways(receiver.recv())
    for way in all_ways:
        way.run(20)  # connections are made, and modules loaded
    runs: dict[str, list[tuple[float, float]]] = {way.name: [] for way in all_ways}
    for _ in range(options.runs):
        for way in all_ways:
            runs[way.name].append(measure(way, options.tasks))
    server.terminate()

    print(f"python benchmarks/enqueue.py --tasks {options.tasks} --runs {options.runs}")
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, "
        f"{LATENCY_SECONDS * 1000:.0f} ms a request; medians of {options.runs} runs"
    )
    print(f"\n{'':28}{'seconds':>9}{'fastest-slowest':>18}{'CPU µs a task':>15}{'ratio':>8}")
    base = statistics.median(wall for wall, _ in runs[all_ways[0].name])
    for way in all_ways:
        walls, cpus = zip(*runs[way.name], strict=True)
        wall = statistics.median(walls)
        spread = f"{min(walls):.2f}-{max(walls):.2f}"
        scaled = f"  ({options.tasks // way.scale} tasks, scaled)" if way.scale > 1 else ""
        print(
            f"{way.name:28}{wall:9.2f}{spread:>18}{statistics.median(cpus) * 1e6:15.0f}"
            f"{base / wall:8.1f}{scaled}"
        )


if __name__ == "__main__":
    main()
