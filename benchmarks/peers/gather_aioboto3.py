"""Calls a function many times with aioboto3, as one writes it by hand; for ``gather.py``.

Its environment has what ``requirements.txt`` names, and nothing of this project. It prints the
seconds, the CPU seconds, and what came back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import aioboto3
from botocore.config import Config

FUNCTION = "bench"


async def measured(url: str, calls: int, connections: int) -> dict[str, Any]:
    config = Config(max_pool_connections=connections)
    async with aioboto3.Session().client("lambda", endpoint_url=url, config=config) as client:
        places = asyncio.Semaphore(connections)

        async def call(*args: Any) -> Any:
            async with places:
                answer = await client.invoke(
                    FunctionName=FUNCTION, Payload=json.dumps({"args": args})
                )
                async with answer["Payload"] as stream:
                    return json.loads(await stream.read())

        await call("warm", 0)  # modules are loaded
        wall, cpu = time.perf_counter(), time.process_time()
        results = await asyncio.gather(*(call(f"batch-{n}", n) for n in range(calls)))
        return {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "results": results,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measured(options.url, options.calls, options.connections))))


if __name__ == "__main__":
    main()
