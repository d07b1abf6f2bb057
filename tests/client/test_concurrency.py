"""Many calls at a time: which wait for each other, which do not, and what a cancelled one leaves behind."""

import asyncio
import os
import signal
import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import workq
from tests.client.conftest import url_of
from tests.client.fakes import FakeServer, say, silence
from tests.server import ServerProcess, reserved_port

ID = "61a444a0-6128-41c0-8078-cc757d3bd2d8"


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4()}"


async def waiting_leases(client: workq.AsyncClient, queue: str) -> None:
    """Wait until somebody leases from `queue`, which brings the queue into being."""
    async with asyncio.timeout(10):
        while True:
            try:
                await client.inspect_queue(queue)
            except workq.NotFound:
                continue
            return


async def test_calls_that_wait_on_the_server_do_not_delay_the_others(url: str, queue: str) -> None:
    async with workq.AsyncClient(url) as client, asyncio.timeout(20):
        leases = [asyncio.create_task(client.lease(queue, timeout=60)) for _ in range(5)]
        run = asyncio.create_task(client.run(f"{queue}.run", timeout=60))
        unfinished = await client.add(f"{queue}.other")
        result = asyncio.create_task(client.result(unfinished, timeout=60))
        await waiting_leases(client, queue)
        ids = {await client.add(queue) for _ in leases}
        assert {job.id for job in await asyncio.gather(*leases)} == ids
        await client.complete(unfinished, b"done")
        assert (await result).result == b"done"
        assert not run.done()
        run.cancel()


async def test_concurrent_calls_share_one_connection(server: ServerProcess, url: str, queue: str) -> None:
    async with workq.AsyncClient(url) as client:
        before = (await client.inspect_server()).active_clients
        ids = await asyncio.gather(*[client.add(queue, str(number)) for number in range(500)])
        assert len(set(ids)) == 500
        assert (await client.inspect_server()).active_clients <= before  # those of other tests may just be going


async def test_each_call_gets_its_own_answer_or_error(url: str, queue: str) -> None:
    async with workq.AsyncClient(url) as client:
        job_id = await client.add(queue, b"mine")
        answers = await asyncio.gather(
            client.inspect_job(job_id),
            client.add(queue, id=job_id),
            client.delete(str(uuid.uuid4())),
            client.add(queue),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [workq.JobInfo, workq.ClientError, workq.NotFound, str]


async def test_a_cancelled_lease_takes_no_job(url: str, queue: str) -> None:
    async with workq.AsyncClient(url) as client:
        lease = asyncio.create_task(client.lease(queue, timeout=60))
        await waiting_leases(client, queue)
        clients = (await client.inspect_server()).active_clients
        lease.cancel()
        async with asyncio.timeout(10):
            while (await client.inspect_server()).active_clients == clients:
                pass
        job_id = await client.add(queue)
        assert (await client.lease(queue, timeout=0)).id == job_id


async def test_a_cancelled_call_leaves_the_connection_to_the_others(url: str, queue: str) -> None:
    async with workq.AsyncClient(url) as client:
        await client.add(queue)
        calls = [asyncio.create_task(client.add(queue, str(number))) for number in range(10)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(each, str) for each in done] == [False, True] * 5
        for job_id in done[1::2]:
            assert (await client.inspect_job(str(job_id))).state is workq.JobState.NEW


async def test_a_call_does_not_get_the_failure_that_a_cancelled_one_would_have_got(queue: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    async with workq.AsyncClient(f"workq://127.0.0.1:{port}", retry_for=0) as client:
        others = asyncio.all_tasks()
        adding = asyncio.create_task(client.add(queue))
        await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait(asyncio.all_tasks() - others)  # the connecting one, too
        with await asyncio.to_thread(ServerProcess, "--port", str(port)):
            await client.add(queue)


async def test_waiting_calls_use_no_more_connections_than_the_pool_has(url: str, queue: str) -> None:
    async with workq.AsyncClient(url) as observer, workq.AsyncClient(url, pool_size=2) as client:
        before = (await observer.inspect_server()).active_clients
        leases = [asyncio.create_task(client.lease(queue, timeout=60)) for _ in range(6)]
        await waiting_leases(observer, queue)
        for _ in leases:
            await client.add(queue)
        async with asyncio.timeout(10):
            await asyncio.gather(*leases)
        assert (await observer.inspect_server()).active_clients <= before + 3


async def test_closing_ends_the_calls_under_way(url: str, queue: str) -> None:
    client = workq.AsyncClient(url)
    lease = asyncio.create_task(client.lease(queue, timeout=60))
    async with workq.AsyncClient(url) as observer:
        await waiting_leases(observer, queue)
    await client.close()
    with pytest.raises(workq.ClientError, match="the client is closed"):
        await asyncio.wait_for(lease, 10)


async def test_closing_leaves_open_whether_a_call_under_way_was_done() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear(connection: socket.socket) -> None:
        connection.recv(65_536)
        loop.call_soon_threadsafe(asked.set)
        silence(connection)

    with FakeServer(hear) as server:
        client = workq.AsyncClient(server.url)
        adding = asyncio.create_task(client.add("q", id=ID))
        await asyncio.wait_for(asked.wait(), 10)
        await client.close()
        with pytest.raises(workq.ConnectionLost, match="the client is closed; whether the server did it") as lost:
            await asyncio.wait_for(adding, 10)
        assert (lost.value.outcome_unknown, lost.value.job_id) == (True, ID)
        with pytest.raises(workq.ClientError, match=f"add job {ID}: the client is closed$"):
            await client.add("q", id=ID)


@pytest.mark.parametrize("method", ["add", "lease"])  # on the shared connection, and on one of its own
async def test_closing_may_be_cancelled_and_done_again(url: str, queue: str, method: str) -> None:
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    async with workq.AsyncClient(url) as observer:
        await observer.add(queue)
    client = workq.AsyncClient(url)
    await getattr(client, method)(queue)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    await asyncio.wait_for(client.close(), 10)
    assert troubles == []


async def test_closing_does_not_wait_for_a_server_that_has_stopped_reading() -> None:
    stopped, over = threading.Event(), threading.Event()

    def stop_sending(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.shutdown(socket.SHUT_WR)
        stopped.set()
        over.wait(20)

    with FakeServer(stop_sending) as server:
        try:
            client = workq.AsyncClient(server.url, retry_for=0)
            adding = [asyncio.create_task(client.add("q", bytes(2**20))) for _ in range(20)]
            done = await asyncio.wait_for(asyncio.gather(*adding, return_exceptions=True), 20)
            assert {type(each) for each in done} == {workq.ConnectionLost}
            await asyncio.wait_for(client.close(), 20)
            assert stopped.is_set()
        finally:
            over.set()


async def test_all_calls_of_a_broken_connection_are_told() -> None:
    with FakeServer(say(b"+OK\r\n")) as server:
        async with workq.AsyncClient(server.url, retry_for=0) as client:
            done = await asyncio.gather(*[client.add("q") for _ in range(5)], return_exceptions=True)
    lost = [each for each in done if isinstance(each, workq.ConnectionLost)]
    assert len(lost) >= 4
    assert all(each.outcome_unknown for each in lost)


async def test_a_burst_of_calls_survives_a_restart_each_job_added_once(queue: str) -> None:
    with reserved_port() as port, ServerProcess("--port", str(port)) as first:
        async with workq.AsyncClient(url_of(first), retry_for=20) as client:
            await client.add(queue)
            adding = [asyncio.create_task(client.add(queue)) for _ in range(200)]
            await asyncio.sleep(0)
            first.kill()
            with await asyncio.to_thread(ServerProcess, "--port", str(port)):
                ids = await asyncio.gather(*adding)
                assert len(set(ids)) == 200
                # What the first server acknowledged died with its memory; the rest was repeated, once each.
                infos = [*await client.inspect_jobs(queue), *await client.inspect_jobs(queue, cursor=100)]
                assert len({info.id for info in infos}) == len(infos)
                assert {info.id for info in infos} <= set(ids)


def test_threads_take_turns_on_one_connection(url: str, queue: str) -> None:
    with workq.Client(url) as client, ThreadPoolExecutor(8) as threads:
        clients = client.inspect_server().active_clients
        ids = list(threads.map(lambda number: client.add(queue, str(number)), range(200), timeout=20))
        assert len(set(ids)) == 200
        assert client.inspect_server().active_clients == clients


def test_a_pool_lets_calls_run_at_the_same_time(url: str, queue: str) -> None:
    with workq.Client(url, pool_size=2) as client, ThreadPoolExecutor(1) as threads:
        leasing = threads.submit(client.lease, queue, timeout=20)
        job_id = client.add(queue)
        assert leasing.result(20).id == job_id


def test_a_call_ends_before_its_client_is_closed_by_another_thread(url: str, queue: str) -> None:
    client = workq.Client(url)
    with workq.Client(url) as observer, ThreadPoolExecutor(1) as threads:
        leasing = threads.submit(client.lease, queue, timeout=20)
        asyncio.run(observe(url, queue))
        client.close()
        job_id = observer.add(queue)
        assert leasing.result(20).id == job_id
        with pytest.raises(workq.ClientError, match="the client is closed"):
            client.inspect_server()


async def observe(url: str, queue: str) -> None:
    async with workq.AsyncClient(url) as client:
        await waiting_leases(client, queue)


def test_a_forked_process_has_connections_of_its_own() -> None:
    with ServerProcess() as server, workq.Client(url_of(server)) as client:
        assert client.inspect_server().active_clients == 1
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = client.inspect_server().active_clients
                client.quit()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        client.ping()


def test_a_forked_process_has_a_pool_of_its_own(url: str, queue: str) -> None:
    with workq.Client(url) as client, workq.Client(url) as observer, ThreadPoolExecutor(1) as threads:
        leasing = threads.submit(client.lease, queue, timeout=60)
        asyncio.run(observe(url, queue))
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            status = 1
            try:
                client.ping()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        job_id = observer.add(queue)
        assert leasing.result(20).id == job_id


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next(url: str, queue: str) -> None:
    def interrupt_the_lease() -> None:
        asyncio.run(observe(url, f"{queue}.empty"))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    with workq.Client(url) as client, ThreadPoolExecutor(1) as threads:
        client.add(queue)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            interrupting = threads.submit(interrupt_the_lease)
            with pytest.raises(KeyboardInterrupt):
                client.lease(f"{queue}.empty", timeout=60)
        finally:
            signal.signal(signal.SIGALRM, before)
        interrupting.result(10)
        assert client.inspect_queue(queue).ready == 1


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
