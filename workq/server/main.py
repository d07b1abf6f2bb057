"""The `workq-server` command: settings in, a running server, an exit status out."""

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from workq.background_log import BackgroundHandler, finish_all
from workq.broker import Broker, Clock
from workq.build import is_compiled
from workq.commit import GroupCommit
from workq.engine import Engine
from workq.gateway import Gateway
from workq.log import FileLog, LogError, open_log
from workq.server.clocks import ClockWatch, warn_of_future
from workq.server.config import Settings, load_settings
from workq.server.errors import StartError, cannot_listen
from workq.settings import Address, ConfigError
from workq.tcp import Connection, HangupWatch
from workq.version import VERSION

if TYPE_CHECKING:
    from workq.server.web import Web

try:
    import uvloop

    _new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:  # plain asyncio does the same, slower
    _new_loop = asyncio.new_event_loop

# How long a client may take to finish a command that it was sending when the server was told to stop.
DRAIN_SECONDS: Final = 5.0
_BACKLOG: Final = 4096
_FILES_WANTED: Final = 10_240

log = logging.getLogger("workq")


class Server:
    """A broker and its doors."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Raises `StartError` when the jobs of earlier days cannot be read."""
        self._settings = settings
        self._loop = loop
        clock = Clock()
        engine = Engine(clock.now_ms(), seed=int.from_bytes(os.urandom(8), "big"))
        commit = None
        if settings.data_dir is not None:
            file_log = _open_log(settings.data_dir, settings.log_segment_size, engine)
            warn_of_future(engine.state, clock.now_ms())
            commit = GroupCommit(engine, file_log, settings.log_sync, settings.log_sync_interval, loop)
        self._broker = Broker(engine, clock, loop, commit)
        self._gateway = Gateway(self._broker)
        self._hangups = HangupWatch(loop)
        self._listeners: list[asyncio.Server] = []
        self._web: Web | None = None

    def now_ms(self) -> int:
        """The server's time."""
        return self._gateway.now_ms()

    async def start(self) -> list[str]:
        """Listen; return the addresses. Raises `StartError`, and then nothing listens."""
        settings = self._settings
        urls: list[str] = []
        try:
            if settings.listens_on_http:
                from workq.server.web import Web

                self._web = Web(settings, self._gateway)
                self._broker.on_finished = self._web.on_finished  # before anybody makes the first turn
            for address in settings.addresses:
                await self._listen_tcp(address)
            if settings.unix is not None:
                await self._listen_unix(settings.unix)
            if self._web is not None:
                urls = await self._web.start(DRAIN_SECONDS)
        except StartError:
            self._stop_listening()
            if self._web is not None:
                await self._web.stop()
            raise
        shown = [_shown_address(listening) for listener in self._listeners for listening in listener.sockets]
        return [*shown, *urls]

    async def stop(self) -> None:
        """Stop accepting, close who only waits, let commands be finished that were half sent, for a bounded time."""
        try:
            self._stop_listening()
            self._gateway.shut_down()
            web = self._web.stop() if self._web is not None else asyncio.sleep(0)
            for error in await asyncio.gather(self._drain(), web, return_exceptions=True):
                if error is not None:
                    raise error
        finally:  # whatever went wrong with the others, the log has to get what was promised
            self._hangups.close()
            await self._broker.close()

    async def _drain(self) -> None:
        """End the TCP connections."""
        for client in self._broker.clients():
            client.shut_down()
        try:
            await asyncio.wait_for(self._broker.wait_for_no_clients(), DRAIN_SECONDS)
        except TimeoutError:
            left = self._broker.clients()
            log.warning("closing those that did not finish their command in %g s: %d", DRAIN_SECONDS, len(left))
            for client in left:
                client.abort()
            await self._broker.wait_for_no_clients()

    def _connection(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, Connection(self._broker, self._hangups))

    async def _listen_tcp(self, address: Address) -> None:
        try:
            listener = await self._loop.create_server(
                self._connection, address.host, address.port, backlog=_BACKLOG, reuse_address=True
            )
        except OSError as error:
            raise cannot_listen(str(address), error) from None
        self._listeners.append(listener)

    async def _listen_unix(self, path: Path) -> None:
        try:
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise StartError(f"cannot listen on unix:{path}: a file that is not a socket is there")
            _remove_if_dead(path)
        except FileNotFoundError:
            pass
        try:
            listener = await self._loop.create_unix_server(self._connection, str(path), backlog=_BACKLOG)
        except OSError as error:
            raise cannot_listen(f"unix:{path}", error) from None
        self._listeners.append(listener)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            for listening in listener.sockets:
                if listening.family == socket.AF_UNIX:
                    Path(listening.getsockname()).unlink(missing_ok=True)
            listener.close()
        self._listeners.clear()


def _open_log(directory: Path, segment_size: int, engine: Engine) -> FileLog:
    started = reported = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > 1:
            reported = time.monotonic()
            log.info("reading %s: %d of %d MB", directory, done // 1_000_000, total // 1_000_000)

    try:
        file_log = open_log(directory, segment_size, engine.state, on_progress)
    except LogError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise _cannot_use(directory, error) from None
    jobs = len(engine.state.jobs)
    log.info("%d jobs are in %s, read in %.1f s", jobs, directory.absolute(), time.monotonic() - started)
    for recurring in engine.state.recurring.values():
        if recurring.rule.problem:
            text = "the recurring job %s does nothing until this server knows its rule: %s"
            log.warning(text, UUID(bytes=recurring.recurring_id), recurring.rule.problem)
    _warn_of_small_disk(directory, segment_size)
    return file_log


def _warn_of_small_disk(directory: Path, segment_size: int) -> None:
    """Tell if the log could fill a file system before it has a segment that it can do without."""
    try:
        disk = os.statvfs(directory)
    except OSError:  # not all systems say
        return
    size = disk.f_blocks * disk.f_frsize
    if 0 < size < 2 * segment_size:
        log.warning(
            "the file system of %s has %d KiB in all, less than two segments of the log: once full, it may stay so; "
            "start with --log-segment-size=%d, or less",
            directory.absolute(),
            size // 1_024,
            size // 8,
        )


def _cannot_use(directory: Path, error: OSError) -> StartError:
    file = error.filename
    if file is not None and os.path.isfile(file):
        may_use_it = os.access(file, os.R_OK | os.W_OK)  # then it is the directory that may not be changed
        if not (may_use_it and isinstance(error, PermissionError)) and Path(file) != directory:
            return StartError(f"cannot use {file}: {error.strerror}")
    return StartError(f"cannot use the data directory {directory}: {_directory_problem(error)}")


def _directory_problem(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "it is not a directory"
    if isinstance(error, FileNotFoundError):
        return "the directory above it does not exist"
    if error.errno == errno.ENOSPC:
        return f"{error.strerror}; it takes up to 4 MiB ahead, less with a smaller --log-segment-size"
    return error.strerror or str(error)


def _remove_if_dead(path: Path) -> None:
    """Remove a socket file that a killed server left behind; raise `StartError` if a server answers there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise StartError(f"cannot listen on unix:{path}: another server is listening there")


def _shown_address(listening: socket.socket) -> str:
    name = listening.getsockname()
    if isinstance(name, tuple):
        return str(Address(name[0], name[1]))
    return f"unix:{name}"


def _raise_file_limit() -> None:
    """Every connection is a file: allow as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass
    if soft != resource.RLIM_INFINITY and soft < _FILES_WANTED:
        log.warning(
            "at most %d files may be open, so about as many connections; raise the limit (ulimit -n) for more", soft
        )


async def _serve(settings: Settings) -> None:
    """Run a server until a signal ends it. A second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        name = signal.Signals(number).name
        if stop.is_set():
            log.warning("%s again: exiting at once", name)
            finish_all()
            os._exit(128 + number)
        log.info("%s: stopping", name)
        stop.set()

    server = Server(settings, loop)
    addresses = await server.start()
    ClockWatch(server.now_ms).start(loop)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(number, on_signal, number)
    if settings.data_dir is None:
        log.warning("jobs are kept in memory only and end with this process; --data-dir DIR keeps them on disk")
    if settings.access_log == "off" and settings.access_log_file is not None:
        log.warning("%s: not written, for --access-log is off; it may be text or json", settings.access_log_file)
    build = "compiled" if is_compiled() else "pure Python, not compiled"
    log.info("workq-server %s (%s) is ready on %s", VERSION, build, ", ".join(addresses))
    await stop.wait()
    await server.stop()
    log.info("stopped")


def _open_missing_files() -> None:
    """See that standard input, output and error are open: the first files opened would take their places."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    # Python has None in their place. Nobody closes these.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _log_to_standard_error(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.addHandler(BackgroundHandler(handler, "log"))


def main() -> int:
    """Run the server; return the exit status: 0 stopped by a signal, 1 could not start, 2 wrong settings."""
    _open_missing_files()
    try:
        settings = load_settings(sys.argv[1:], os.environ)
    except ConfigError as error:
        print(f"workq-server: {error}", file=sys.stderr)
        return 2
    _log_to_standard_error(settings.log_level)
    # What rotates the logs of HQ or Fireworq sends it, and it would kill. Files that are renamed are begun anew anyway.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    gc.disable()
    _raise_file_limit()
    status, problem = 0, ""
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(settings))
    except StartError as error:
        status, problem = 1, f"workq-server: {error}"
    if not finish_all():
        os._exit(status)  # a thread is in the middle of a write that nobody reads; Python would wait for it
    if problem:
        print(problem, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
