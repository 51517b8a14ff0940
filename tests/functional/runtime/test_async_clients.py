"""Clients for asyncio, unchanged, made once a process and used by many asynchronous tasks."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from celery.exceptions import SoftTimeLimitExceeded

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30
LOOP = "lambda-celery-event-loop"
CONCURRENCY = 50
#: What a limit is to strike in takes longer.
LIMIT_SECONDS = 0.3
#: And this is long enough to be in a transaction by then.
QUERY_LIMIT_SECONDS = 1


@pytest.fixture
def runtime(make_runtime):
    return make_runtime(
        lambda_async_concurrency=CONCURRENCY, result_backend=None, lambda_retry_backoff_seconds=0
    )


class Service:
    """An HTTP service: ``/meet`` waits for as many others, ``/hang`` for the test's end."""

    def __init__(self) -> None:
        self.connections = 0
        self.ended = threading.Event()
        self._meeting = threading.Barrier(CONCURRENCY)
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                service.connections += 1

            def do_GET(self) -> None:
                if self.path == "/meet":
                    service._meeting.wait(WAIT_SECONDS)
                if self.path == "/hang":
                    service.ended.wait(WAIT_SECONDS)
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    serving = threading.Thread(target=service.server.serve_forever, args=(0.01,), daemon=True)
    serving.start()
    yield service
    service.ended.set()
    service.server.shutdown()
    service.server.server_close()


def on_loop_of(runtime: Any, ending: Any) -> None:
    """Await *ending*, what closes a client, on the loop that it was made on."""

    @runtime.task(name="proj.close")
    async def close():
        await ending()

    close.delay()
    assert runtime.deliver().all_deleted


class TestHttpx:
    @pytest.fixture
    def client(self, runtime, service) -> Iterator[httpx.AsyncClient]:
        """A client as a project makes it, at import: with as many connections as tasks."""
        limits = httpx.Limits(
            max_connections=CONCURRENCY,
            max_keepalive_connections=CONCURRENCY,
            keepalive_expiry=None,
        )
        client = httpx.AsyncClient(
            base_url=service.url, limits=limits, timeout=WAIT_SECONDS, trust_env=False
        )
        yield client
        on_loop_of(runtime, client.aclose)

    def test_its_connections_serve_the_tasks_of_all_invocations(
        self, runtime, service, client, began
    ):
        answers = []

        @runtime.task
        async def call():
            answers.append((await client.get("/meet")).text)

        for _ in range(2):
            for _ in range(CONCURRENCY):
                call.delay()
            assert runtime.deliver(CONCURRENCY).all_deleted
        assert answers == ["ok"] * 2 * CONCURRENCY
        assert service.connections == CONCURRENCY
        assert set(began) == {LOOP}

    @pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
    def test_a_limit_strikes_in_a_call_and_leaves_the_pool_to_others(
        self, runtime, client, limit, began
    ):
        ended, answers = [], []

        @runtime.task(max_retries=0)
        async def call(path):
            try:
                answers.append((await client.get(path)).text)
            except BaseException as exc:
                ended.append(isinstance(exc, SoftTimeLimitExceeded))
                raise

        # As many as there are connections: one that were lost would be missing.
        for _ in range(CONCURRENCY):
            call.apply_async(("/hang",), **{limit: LIMIT_SECONDS})
        assert len(runtime.deliver(CONCURRENCY).messages) == CONCURRENCY
        assert ended == [limit == "soft_time_limit"] * CONCURRENCY
        assert len(runtime.stack.dead_letters()) == CONCURRENCY
        for _ in range(CONCURRENCY):
            call.delay("/meet")
        assert runtime.deliver(CONCURRENCY).all_deleted
        assert answers == ["ok"] * CONCURRENCY
        assert set(began) == {LOOP}

    def test_its_own_time_out_is_no_limit_of_the_task(self, runtime, client):
        ended = []

        @runtime.task(soft_time_limit=WAIT_SECONDS)
        async def call():
            try:
                await client.get("/hang", timeout=httpx.Timeout(WAIT_SECONDS, read=0.05))
            except httpx.ReadTimeout as exc:
                ended.append(type(exc))
            await asyncio.sleep(0)  # and nothing is cancelled any longer
            assert asyncio.current_task().cancelling() == 0

        for _ in range(CONCURRENCY):
            call.delay()
        assert runtime.deliver(CONCURRENCY).all_deleted
        assert ended == [httpx.ReadTimeout] * CONCURRENCY

    def test_calls_at_the_same_time_within_a_task(self, runtime, client):
        answers = []

        @runtime.task
        async def call():
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(client.get("/ok")) for _ in range(5)]
            answers.extend(each.result().text for each in calls)

        for _ in range(CONCURRENCY):
            call.delay()
        assert runtime.deliver(CONCURRENCY).all_deleted
        assert answers == ["ok"] * 5 * CONCURRENCY


class Pool:
    """A pool of connections to PostgreSQL, made by the first task that asks for it."""

    SIZE = 5

    def __init__(self, url: str) -> None:
        self.made = 0
        self._url = url
        self._pool: asyncpg.Pool | None = None
        self._making = asyncio.Lock()

    async def __call__(self) -> asyncpg.Pool:
        async with self._making:
            if self._pool is None:
                self.made += 1
                self._pool = await asyncpg.create_pool(self._url, min_size=1, max_size=self.SIZE)
        return self._pool

    async def close(self) -> None:
        await asyncio.wait_for((await self()).close(), WAIT_SECONDS)


class TestAsyncpg:
    @pytest.fixture
    def pool(self, runtime, postgres_url) -> Iterator[Pool]:
        async def make_table() -> None:
            connection = await asyncpg.connect(postgres_url)
            await connection.execute("DROP TABLE IF EXISTS sent")
            await connection.execute("CREATE TABLE sent (n int)")
            await connection.close()

        asyncio.run(make_table())
        pool = Pool(postgres_url)
        yield pool
        on_loop_of(runtime, pool.close)

    @pytest.fixture
    def ask(self, postgres_url) -> Any:
        """Return the rows of a query, over a connection of its own."""

        async def asked(query: str) -> list[Any]:
            connection = await asyncpg.connect(postgres_url)
            rows = await connection.fetch(query)
            await connection.close()
            return [row[0] for row in rows]

        return lambda query: asyncio.run(asked(query))

    @pytest.fixture
    def send(self, runtime, pool) -> Any:
        """A task that inserts a row in a transaction, in which it may hang."""
        self.processes: set[int] = set()
        self.ended: list[type[BaseException]] = []
        self.hanging = 0

        @runtime.task(name="proj.send", max_retries=0)
        async def send(n, hangs=""):
            try:
                async with (await pool()).acquire() as connection, connection.transaction():
                    self.processes.add(connection.get_server_pid())
                    await connection.execute("INSERT INTO sent VALUES ($1)", n)
                    self.hanging += bool(hangs)
                    if hangs == "in a query":
                        await connection.execute("SELECT pg_sleep(60)")
                    elif hangs == "between queries":
                        await asyncio.sleep(60)
            except BaseException as exc:
                self.ended.append(type(exc))
                raise

        return send

    def test_one_pool_serves_the_tasks_of_all_invocations(self, runtime, pool, send, ask, began):
        for invocation in range(2):
            for n in range(CONCURRENCY):
                send.delay(invocation * CONCURRENCY + n)
            assert runtime.deliver(CONCURRENCY).all_deleted
        assert sorted(ask("SELECT n FROM sent")) == list(range(2 * CONCURRENCY))
        assert pool.made == 1
        assert len(self.processes) <= Pool.SIZE
        assert set(began) == {LOOP}

    @pytest.mark.parametrize("hangs", ["in a query", "between queries"])
    @pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
    def test_a_limit_in_a_transaction_rolls_it_back_and_leaves_the_pool_to_others(
        self, runtime, send, ask, limit, hangs
    ):
        for n in range(CONCURRENCY):  # which opens the connections
            send.delay(n)
        assert runtime.deliver(CONCURRENCY).all_deleted
        sent = list(range(CONCURRENCY))
        assert sorted(ask("SELECT n FROM sent")) == sent

        # More than there are connections: some are stopped while they wait for one.
        for n in range(CONCURRENCY):
            send.apply_async((n, hangs), **{limit: QUERY_LIMIT_SECONDS})
        runtime.deliver(CONCURRENCY)
        assert self.hanging >= Pool.SIZE
        assert [issubclass(each, SoftTimeLimitExceeded) for each in self.ended] == [
            limit == "soft_time_limit"
        ] * CONCURRENCY
        assert len(runtime.stack.dead_letters()) == CONCURRENCY
        assert sorted(ask("SELECT n FROM sent")) == sent

        for n in range(CONCURRENCY):
            send.delay(CONCURRENCY + n)
        assert runtime.deliver(CONCURRENCY).all_deleted
        assert sorted(ask("SELECT n FROM sent")) == list(range(2 * CONCURRENCY))
        assert (
            ask(
                "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
                "OR query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()"
            )
            == []
        )

    def test_one_that_a_neighbour_cancels_in_a_transaction_leaves_the_pool_to_others(
        self, runtime, send, ask
    ):
        @runtime.task(name="proj.cancel")
        async def cancel():
            while self.hanging < Pool.SIZE:
                await asyncio.sleep(0.01)
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()

        cancel.delay()
        for n in range(Pool.SIZE):
            send.delay(n, "in a query")
        runtime.deliver(Pool.SIZE + 1)
        assert self.ended == [asyncio.CancelledError] * Pool.SIZE
        assert len(runtime.stack.dead_letters()) == Pool.SIZE
        assert ask("SELECT n FROM sent") == []

        for n in range(CONCURRENCY):
            send.delay(n)
        assert runtime.deliver(CONCURRENCY).all_deleted
        assert sorted(ask("SELECT n FROM sent")) == list(range(CONCURRENCY))
