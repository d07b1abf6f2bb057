"""Which HTTP application listens where, and what stands behind them: the dispatcher and the archive.

Imported only by a server that is to listen on HTTP: what it needs takes longer to load than all the rest.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from workq.archive import Archive, ArchiveError
from workq.archive.archive import FILE_NAME
from workq.archive.metrics import ArchiveMetrics
from workq.dispatch.addresses import AddressRules
from workq.dispatch.dispatcher import Dispatcher
from workq.dispatch.metrics import DispatcherMetrics
from workq.dispatch.sender import Sender
from workq.engine.job import Job
from workq.gateway import Gateway
from workq.http import health, native, web
from workq.http.access_log import open_access_log
from workq.http.application import Application
from workq.http.fireworq import FireworqDoor
from workq.http.hq import HqDoor
from workq.http.messages import MessagesDoor
from workq.http.metrics import Metrics
from workq.http.problem import problem
from workq.http.server import Door, HttpServer
from workq.server.config import Settings
from workq.server.errors import StartError, cannot_listen
from workq.settings import Address
from workq.version import VERSION

_OFF_HINT: Final = "; {flag} HOST:PORT takes another address, {flag} off none"

_INDEX: Final = f"""workq {VERSION}

/v1                 jobs and queues as JSON
/v1/openapi.json    all of it described
/healthz, /readyz   whether the server is alive, and takes work
/metrics            figures for Prometheus
/hq                 the API of HQ
/fireworq           the API of Fireworq
/messages           the API of the SQS-like queue
"""


class Web:
    """The HTTP side of a server.

    metrics     to which other rooms may add theirs
    archive     for finished jobs that their doors must be able to list
    dispatcher  for jobs that are sent to web workers
    """

    def __init__(self, settings: Settings, gateway: Gateway) -> None:
        """Raises `StartError` when the access log or the queue log cannot be written, or the archive not be read."""
        try:
            access_log = open_access_log(settings.access_log, settings.access_log_file)
        except OSError as error:
            raise StartError(f"cannot write {settings.access_log_file}: {error.strerror}") from None
        try:
            self.archive = Archive(settings.data_dir, gateway, durable=settings.log_sync == "always")
        except ArchiveError as error:
            raise _cannot_use_archive(error, settings.data_dir) from None
        rules = AddressRules(settings.dispatch_allow, settings.dispatch_deny)
        self.dispatcher = Dispatcher(gateway, lambda: Sender(rules, gateway.now_ms, gateway.run_queue))
        self._settings = settings
        self._gateway = gateway
        self.metrics = Metrics(gateway, lambda: self._server.connections())
        self.metrics.add(DispatcherMetrics(self.dispatcher))
        self.metrics.add(ArchiveMetrics(self.archive))
        self._server = HttpServer(
            settings.http_idle_timeout, access_log, self.metrics.requests.count, gateway.run_queue
        )
        try:
            fireworq = self._fireworq = FireworqDoor(
                gateway, self.archive, self.dispatcher, settings.fireworq, _in_words_of_fireworq(settings)
            )
        except OSError as error:
            raise StartError(f"cannot write {settings.fireworq.queue_log}: {error.strerror}") from None
        self._messages = MessagesDoor(gateway, self.archive, settings.messages)
        self._doors: Mapping[str, Door] = {
            "hq": HqDoor(gateway, self.archive, self.dispatcher, settings.hq),
            "fireworq": fireworq,
            "messages": self._messages,
        }

    async def start(self, drain_s: float) -> list[str]:
        """Listen; return the URLs, those of a door with its name. Raises `StartError`: `stop` then ends the rest."""
        try:
            return await self._start(drain_s)
        except ArchiveError as error:
            raise _cannot_use_archive(error, self._settings.data_dir) from None

    async def _start(self, drain_s: float) -> list[str]:
        self.metrics.start()
        settings = self._settings
        self.archive.start()
        await self.dispatcher.start()
        await self._fireworq.start()
        await self._messages.start()
        places = [("http", settings.http, self._own_application())]
        listens = {
            "hq": settings.hq_address,
            "fireworq": settings.fireworq_address,
            "messages": settings.messages_address,
        }
        places += [(f"{name}-listen", listens[name], door.application()) for name, door in self._doors.items()]
        urls = []
        for key, address, served in places:
            if address is not None:
                name = "" if key == "http" else f" ({key.removesuffix('-listen')})"
                listening = await self._listen(f"--{key}", address, served, drain_s)
                urls += [f"http://{each}{name}" for each in listening]
        return urls

    async def stop(self) -> None:
        """Stop listening, and let requests be answered, and jobs that are being pushed, for a bounded time.

        The gateway should be shut down before.
        """
        self.metrics.stop()
        try:
            await asyncio.gather(self._server.stop(), self.dispatcher.stop(self._settings.dispatch_shutdown_timeout))
        finally:
            await self.archive.stop()

    def on_finished(self, jobs: list[Job]) -> None:
        """These jobs, which have meta, have finished."""
        self.dispatcher.on_finished(jobs)
        self.archive.on_finished(jobs)

    async def _listen(self, flag: str, address: Address, served: Application, drain_s: float) -> list[Address]:
        try:
            return list(await self._server.listen(served, address, drain_s))
        except OSError as error:
            raise cannot_listen(f"http://{address}", error, _OFF_HINT.format(flag=flag)) from None

    def _own_application(self) -> Application:
        own = Application(problem)
        own.router.add_get("/", _index)
        native.add_routes(own, self._gateway, self.dispatcher)
        health.add_routes(own, self._gateway)
        self.metrics.add_routes(own)
        for name, door in self._doors.items():
            own.mount(f"/{name}", door.application())
        return own


def _cannot_use_archive(error: ArchiveError, directory: Path | None) -> StartError:
    """Why, and what to do; SQLite does not tell of files that it may not open."""
    for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
        path = (directory or Path()) / name
        try:
            path.open("r+b").close()
        except FileNotFoundError:
            continue
        except OSError as refused:
            return StartError(f"cannot use the archive: {path}: {refused.strerror}")
    return StartError(f"{error}; doc/archive.md says how to mend it, and how to start without it")


def _in_words_of_fireworq(settings: Settings) -> dict[str, str]:
    """What is said for the whole server, and Fireworq has a setting for."""
    writes_access_log = settings.access_log != "off" and settings.access_log_file is not None
    return {
        "bind": str(settings.fireworq_address or settings.http or ""),
        "shutdown_timeout": f"{settings.dispatch_shutdown_timeout:g}",
        "access_log": str(settings.access_log_file) if writes_access_log else "",
        "error_log_level": settings.log_level.replace("warning", "warn"),
        "driver": "in-memory" if settings.data_dir is None else "",
    }


async def _index(request: web.Request) -> web.Response:
    """For people who look what is here."""
    return web.Response(text=_INDEX)
