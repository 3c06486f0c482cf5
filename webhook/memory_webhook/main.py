"""Entry point of `memory-webhook`: two servers on one event loop, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from memory_operator.listening import QuietServer, bind
from memory_operator.logs import set_up_logs
from memory_webhook.app import App, review_app
from memory_webhook.connections import Connections
from memory_webhook.metrics import WebhookMetrics
from memory_webhook.probes import probe_app
from memory_webhook.settings import Settings, read_settings
from memory_webhook.tls import PairError, TlsFiles

EXIT_FAILED = 1
EXIT_USAGE = 2

KEEP_ALIVE_SECONDS = 120
"""Longer than the API server keeps an idle connection (90 s), so that it never sends into one that we just closed."""
_GRACE_SECONDS = 1
"""A review takes milliseconds. What still holds a connection by then is a client that does not answer our goodbye."""
_STOP_SECONDS = 5.0

log = logging.getLogger(__name__)


class StartError(Exception):
    """The process cannot start; the text says why."""


def main() -> None:
    """Run the webhook. Exits 0 after SIGTERM or SIGINT, 1 when it cannot start, 2 for a wrong option."""
    settings = read_settings(sys.argv[1:], os.environ)
    set_up_logs(settings.log_format, logging.getLevelNamesMapping()[settings.log_level.upper()])
    try:
        asyncio.run(serve(settings))
    except StartError as error:
        log.error("memory-webhook cannot start: %s", error)  # noqa: TRY400 - the text says all
        sys.exit(EXIT_FAILED)


async def serve(settings: Settings) -> None:
    """Serve reviews and probes until SIGTERM or SIGINT. Raises StartError."""
    stop, metrics = asyncio.Event(), WebhookMetrics()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # as process 1, nothing happens on either unless it is handled
        loop.add_signal_handler(number, stop.set)
    tls = TlsFiles(settings.tls_cert, settings.tls_key, metrics)
    try:
        tls.load()
    except PairError as error:
        raise StartError(str(error)) from error
    metrics.tls_loads.labels("ok").inc()
    with listening(settings.host, settings.port) as door, listening(settings.probe_host, settings.probe_port) as probes:
        reviews = server_of(review_app(metrics))
        probing = server_of(probe_app(metrics, lambda: _not_ready(reviews, stop)))
        log.info("reviews on %s port %d, probes on %s port %d", *_address(door), *_address(probes))
        tasks = [
            asyncio.create_task(probing.serve([]), name="probes"),
            asyncio.create_task(reviews.serve([]), name="reviews"),
            asyncio.create_task(tls.watch(settings.reload_seconds), name="tls files"),
            asyncio.create_task(Connections(reviews, tls.context).accept(door), name="connections"),
            asyncio.create_task(Connections(probing, None).accept(probes), name="probes' connections"),
        ]
        gc.collect()
        gc.freeze()  # what is loaded by now stays for good: no collection need walk it again
        await _until_stopped(tasks, stop)
        log.info("draining for %g s", settings.drain_seconds)
        await asyncio.sleep(settings.drain_seconds)
        await _end(tasks, reviews, probing)
    log.info("stopped")


async def _until_stopped(tasks: list[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Wait for a signal. Raises StartError when a task ends on its own, which none should."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for task in done - {stopping}:
        raise StartError(f"{task.get_name()} ended by itself") from task.exception()


async def _end(tasks: list[asyncio.Task[None]], reviews: uvicorn.Server, probing: uvicorn.Server) -> None:
    """Let requests in hand end, reviews before probes; what takes longer than _STOP_SECONDS is cancelled."""
    _, review_task, tls_task, accepting, probes_accepting = tasks
    tls_task.cancel()
    accepting.cancel()
    reviews.should_exit = True
    await asyncio.wait([review_task], timeout=_STOP_SECONDS)
    probing.should_exit = True
    probes_accepting.cancel()
    _, late = await asyncio.wait(tasks, timeout=_STOP_SECONDS)
    for task in late:
        log.warning("%s did not end within %g s", task.get_name(), _STOP_SECONDS)
        task.cancel()


def _not_ready(reviews: uvicorn.Server, stop: asyncio.Event) -> str | None:
    if stop.is_set():
        return "stopping"
    return None if reviews.started else "starting"


def server_of(app: App, keep_alive_seconds: int = KEEP_ALIVE_SECONDS) -> uvicorn.Server:
    """A server that closes a connection which is idle for so long after a request."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=keep_alive_seconds,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    config.load()
    return QuietServer(config)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises StartError when the address cannot be had."""
    try:
        listener = bind(host, port)
    except OSError as error:
        raise StartError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    with listener:
        yield listener


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return host, port
