"""What one request to AWS costs: ours, botocore's, and what kept libraries take for the same bytes.

    python benchmarks/one_request.py --tls

A SendMessage to a local stand-in for SQS, a process of its own that answers at once, over plain
HTTP on connections that are kept. The libraries are given a request that is signed already, and
only read its answer: they do less than ours. With ``--tls`` there is a second stand-in, with a
certificate that is made for the run, and all are measured with it, too; and so is a connection
that is made for one request.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bench
import stand_ins
import urllib3

from lambda_celery import aws
from lambda_celery.conf import Settings

MESSAGE = "x" * 300
HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "AmazonSQS.SendMessage",
    "Authorization": "AWS4-HMAC-SHA256 " + "x" * 200,
}
OURS = "ours"
Ways = dict[str, Callable[[], Any]]


def ways(endpoint_url: str, certificate: Path | None) -> Ways:
    """Return what to measure, by TLS if there is a *certificate*."""
    queue_url = f"{endpoint_url}/{bench.ACCOUNT_ID}/bench"
    parts = urlsplit(endpoint_url)
    hostname, port = str(parts.hostname), int(parts.port or 80)
    parameters: dict[str, Any] = {"QueueUrl": queue_url, "MessageBody": MESSAGE}
    body = json.dumps(parameters).encode()

    def client(fast: bool) -> Any:
        settings = Settings(endpoint_url=endpoint_url, region=bench.REGION, fast_requests=fast)
        return aws.client("sqs", settings)

    ours, botocores = client(True), client(False)
    tls: ssl.SSLContext | None = None
    kept: http.client.HTTPConnection
    pool: urllib3.HTTPConnectionPool
    if certificate is None:
        kept = http.client.HTTPConnection(hostname, port)
        pool = urllib3.HTTPConnectionPool(hostname, port)
    else:
        tls = ssl.create_default_context(cafile=str(certificate))
        kept = http.client.HTTPSConnection(hostname, port, context=tls)
        pool = urllib3.HTTPSConnectionPool(hostname, port, ssl_context=tls)

    def connect() -> socket.socket:
        made = socket.create_connection((hostname, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls.wrap_socket(made, server_hostname=hostname) if tls else made

    made = connect()
    headers = {**HEADERS, "Host": parts.netloc, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST / HTTP/1.1\r\n{head}\r\n".encode() + body

    def by_http_client() -> bytes:
        kept.request("POST", "/", body, HEADERS)
        return kept.getresponse().read()

    def by_urllib3() -> bytes:
        return pool.urlopen("POST", "/", body, HEADERS, retries=False).data

    def by_hand() -> bytes:
        made.sendall(request)
        return made.recv(65_536)

    def by_a_new_connection() -> bytes:
        with connect() as new:
            new.sendall(request)
            return new.recv(65_536)

    return {
        "botocore": lambda: botocores.send_message(**parameters),
        OURS: lambda: ours.send_message(**parameters),
        "urllib3, not signed or parsed": by_urllib3,
        "http.client, not signed or parsed": by_http_client,
        "a socket, not signed or parsed": by_hand,
        "the same, made for the request": by_a_new_connection,
    }


def measure(way: Callable[[], Any], count: int) -> float:
    """Return the CPU seconds of one request."""
    cpu = time.process_time()
    for _ in range(count):
        way()
    return (time.process_time() - cpu) / count


def measured(all_ways: list[Ways], requests: int, runs: int) -> list[dict[str, list[float]]]:
    """Return the CPU microseconds of a request, of each run, by name; the ways take turns."""
    figures: list[dict[str, list[float]]] = [{name: [] for name in each} for each in all_ways]
    for each in all_ways:
        for way in each.values():
            measure(way, 50)  # connections are made, and modules loaded
    for _ in range(runs):
        for name in all_ways[0]:
            for each, of_each in zip(all_ways, figures, strict=True):
                of_each[name].append(measure(each[name], requests) * 1e6)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tls", action="store_true", help="tell what TLS adds, too")
    options = parser.parse_args()
    bench.begin()
    with ExitStack() as stack:
        all_ways = [ways(stack.enter_context(stand_ins.sqs(0.0)), None)]
        if options.tls:
            certificate = stack.enter_context(stand_ins.certificate())
            os.environ["AWS_CA_BUNDLE"] = str(certificate)
            url = stack.enter_context(stand_ins.sqs(0.0, certificate))
            all_ways.append(ways(url, certificate))
        plain, *by_tls = measured(all_ways, options.requests, options.runs)
    print(f"medians of {options.runs} runs\n")
    columns = f"{'fastest-slowest':>18}{'/ ours':>8}"
    print(f"{'':36}{'CPU µs':>8}{columns}" + f"{'by TLS':>10}{columns}{'adds':>7}" * len(by_tls))
    for name, runs in plain.items():
        line = f"{name:36}{told(runs, plain[OURS])}"
        for each in by_tls:
            adds = statistics.median(each[name]) - statistics.median(runs)
            line += f"  {told(each[name], each[OURS])}{adds:7.0f}"
        print(line)


def told(runs: list[float], ours: list[float]) -> str:
    took = statistics.median(runs)
    spread = f"{min(runs):.0f}-{max(runs):.0f}"
    return f"{took:8.0f}{spread:>18}{took / statistics.median(ours):8.2f}"


if __name__ == "__main__":
    main()
