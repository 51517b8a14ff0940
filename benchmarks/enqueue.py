"""How long it takes to enqueue many small tasks, and the CPU that each costs.

    python benchmarks/enqueue.py

A local stand-in for SQS, a process of its own, answers each request after 10 ms, over plain HTTP.
With ``--tls`` there is a second one, with a certificate that is made for the run, and all is
measured with it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bench
import stand_ins
from celery import Celery

import lambda_celery
from lambda_celery.aws.signature import Credentials, Signer

LATENCY_SECONDS = 0.010
#: What is sent one by one is measured with fewer tasks; its times are scaled up.
SCALE = 20
PLAIN = "HTTP"
DELAY_MANY = "delay_many()"
BY_HAND = "its messages, sent by hand"
CONTENT_TYPE = "application/x-amz-json-1.0"
#: As many as delay_many() has requests under way.
SOCKETS = 16


@dataclass(frozen=True)
class Way:
    name: str
    run: Callable[[int], object]
    scale: int = 1


def ways(endpoint_url: str, certificate: Path | None = None) -> list[Way]:
    settings = bench.settings_at(endpoint_url)
    url = settings.queue_url
    parts = urlsplit(endpoint_url)
    broker = f"sqs://test:test@{parts.netloc}"
    stock = Celery("stock", broker=broker, set_as_current=False)
    stock.conf.broker_transport_options = {
        "region": bench.REGION,
        "is_secure": parts.scheme == "https",
        "predefined_queues": {"celery": {"url": url}},
    }
    ours = bench.make_app(settings)

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

    def by_hand(count: int) -> None:
        sent_by_hand(endpoint_url, certificate, our_send, calls[:count])

    return [
        Way("Celery and kombu, delay()", one_by_one(stock_send), SCALE),
        Way("delay()", one_by_one(our_send), SCALE),
        Way("batch() around delay()", batched),
        Way(DELAY_MANY, lambda count: lambda_celery.delay_many(our_send, calls[:count])),
        Way(
            BY_HAND, lambda count: sent_by_hand(endpoint_url, certificate, our_send, calls[:count])
        ),
    ]


def sent_by_hand(
    endpoint_url: str, certificate: Path | None, task: Any, calls: list[tuple[str, int]]
) -> None:
    """Send the messages of *calls* with as little as it takes: the limit for ``delay_many``.

    Ten to a request, which is signed with the day's key, on sockets that one thread waits for.
    Nothing is retried, and an answer is not read but for its status. The messages are made before
    the first is sent, so it is the CPU that tells something, and not the time.
    """
    parts = urlsplit(endpoint_url)
    signer = Signer(
        service="sqs", region=bench.REGION, host=parts.netloc, content_type=CONTENT_TYPE
    )
    credentials = Credentials("test", "test", None)
    bodies = bench.bodies(task, calls)

    def requests() -> Iterator[bytes]:
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(n), "MessageBody": text}
                for n, text in enumerate(bodies[start : start + 10])
            ]
            body = json.dumps({"QueueUrl": f"{endpoint_url}/bench", "Entries": entries}).encode()
            signed = signer.headers("AmazonSQS.SendMessageBatch", body, credentials)
            yield (
                f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {CONTENT_TYPE}\r\n"
                f"{signed}Content-Length: {len(body)}\r\n\r\n"
            ).encode() + body

    tls = ssl.create_default_context(cafile=str(certificate)) if certificate else None
    left = requests()
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for request in islice(left, SOCKETS):
            made = stack.enter_context(socket.create_connection((parts.hostname, parts.port)))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                made = stack.enter_context(tls.wrap_socket(made, server_hostname=parts.hostname))
            made.sendall(request)
            selector.register(made, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                answer = key.fileobj.recv(65_536)
                assert answer.startswith(b"HTTP/1.1 200")
                if (following := next(left, None)) is None:
                    selector.unregister(key.fileobj)
                else:
                    key.fileobj.sendall(following)


def measure(way: Way, tasks: int) -> tuple[float, float]:
    """Return the seconds for *tasks*, and the CPU seconds for one."""
    count = tasks // way.scale
    wall, cpu = time.perf_counter(), time.process_time()
    way.run(count)
    return (time.perf_counter() - wall) * way.scale, (time.process_time() - cpu) / count


def medians_of(runs: list[tuple[float, float]]) -> tuple[float, float]:
    walls, cpus = zip(*runs, strict=True)
    return statistics.median(walls), statistics.median(cpus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000, help="at most 100,000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tls", action="store_true", help="tell what TLS adds, too")
    options = parser.parse_args()
    bench.begin()
    with ExitStack() as stack:
        protocols = {PLAIN: ways(stack.enter_context(stand_ins.sqs(LATENCY_SECONDS)))}
        if options.tls:
            certificate = stack.enter_context(stand_ins.certificate())
            os.environ["AWS_CA_BUNDLE"] = str(certificate)
            url = stack.enter_context(stand_ins.sqs(LATENCY_SECONDS, certificate))
            protocols["TLS"] = ways(url, certificate)
        all_ways = [(name, each) for name, of_name in protocols.items() for each in of_name]
        for _, way in all_ways:
            way.run(20)  # connections are made, and modules loaded
        runs: dict[tuple[str, str], list[tuple[float, float]]] = {
            (protocol, way.name): [] for protocol, way in all_ways
        }
        for _ in range(options.runs):
            for protocol, way in all_ways:
                runs[protocol, way.name].append(measure(way, options.tasks))
    print(f"{LATENCY_SECONDS * 1000:.0f} ms a request; medians of {options.runs} runs")
    medians = {way: medians_of(of_way) for way, of_way in runs.items()}
    for protocol, of_protocol in protocols.items():
        is_plain = protocol == PLAIN
        heads = f"{'seconds':>9}{'fastest-slowest':>18}{'CPU µs a task':>15}{'x of stock':>12}"
        print(f"\n{protocol:28}{heads}{'' if is_plain else f'{protocol} adds µs':>14}".rstrip())
        for way in of_protocol:
            walls = [wall for wall, _ in runs[protocol, way.name]]
            wall, cpu = medians[protocol, way.name]
            times = medians[protocol, of_protocol[0].name][0] / wall
            spread = f"{min(walls):.2f}-{max(walls):.2f}"
            line = f"{way.name:28}{wall:9.2f}{spread:>18}{cpu * 1e6:15.0f}{times:12.1f}"
            if not is_plain:
                line += f"{(cpu - medians[PLAIN, way.name][1]) * 1e6:14.0f}"
            scaled = f"  ({options.tasks // way.scale} tasks, scaled)" if way.scale > 1 else ""
            print(line + scaled)
        ratio = medians[protocol, DELAY_MANY][1] / medians[protocol, BY_HAND][1]
        print(f"delay_many() / its messages, sent by hand, CPU: {ratio:.2f}")


if __name__ == "__main__":
    main()
