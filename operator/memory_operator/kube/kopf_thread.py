"""Runs kopf in a thread of its own and restarts it when it ends, for as long as the operator lives."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
import kopf
from kubernetes.aio.client import ApiClient

from memory_operator.backoff import backoff, first_of, wait_for_event
from memory_operator.contract.provider import GROUP, PLURAL
from memory_operator.contract.resource import ProviderRef
from memory_operator.errors import SourceUnavailable
from memory_operator.kube.client import Pod, open_api
from memory_operator.kube.crd_owner import is_installed
from memory_operator.kube.handlers import Triggers, handlers, settings
from memory_operator.kube.login import login_with
from memory_operator.kube.watch_scope import watched_namespaces
from memory_operator.logs import get_logger

log = get_logger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 5.0
_HEALTHY_SECONDS = 60.0
"""A run of kopf that lasted so long ended for a new reason: the pauses start small again."""
_STOP_SECONDS = 10.0
_TLS_SHUTDOWN_SECONDS = 0.25
_REMIND_SECONDS = 300.0
_DEAF_SECONDS = 10.0
"""How long kopf may take to end once it has lost one of its streams."""
_STREAM = "watcher for "
"""How kopf names the task of a stream; what is never seen is never missed."""
SCOPE_SECONDS = 15.0
"""How often it is asked whether a served namespace may be watched that might not be."""


async def run_kopf(
    operator: Triggers,
    kubeconfig: Path | None,
    namespaces: Sequence[str],
    stop: asyncio.Event,
    *,
    pod: Pod | None = None,
) -> None:
    """Tell the operator about Providers that change, until `stop` is set.

    Waits for the API server and for the CRD as long as it takes, and survives the loss of both. The operator is only
    ever called on the event loop that called this. Raises ConfigurationError.
    """
    _quieten_kopf()
    waiting, loop = _Waiting(), asyncio.get_running_loop()
    async with open_api(kubeconfig, pod=pod) as api:
        while not stop.is_set():
            try:
                scope = await _ready_scope(api, namespaces)
            except SourceUnavailable as error:
                waiting.report(error.message)
                await wait_for_event(stop, waiting.next_pause())
                continue
            _say_what_is_watched(scope, namespaces)
            started = loop.time()
            run = KopfThread(_OnLoop(operator, loop), kubeconfig, scope, pod)
            moved = await _run_until_scope_moves(run, api, namespaces, scope, stop)
            if moved or loop.time() - started >= _HEALTHY_SECONDS:
                waiting.reset()
            if not moved and not stop.is_set():
                waiting.report(f"the watch of Providers ended ({run.ended_with}); restarting it")
                await wait_for_event(stop, waiting.next_pause())


async def _ready_scope(api: ApiClient, namespaces: Sequence[str]) -> tuple[str, ...] | None:
    if not await is_installed(api):
        raise SourceUnavailable(
            f"the CRD {PLURAL}.{GROUP} is not installed; waiting for it (memory-operator crds | kubectl apply -f -)"
        )
    return await watched_namespaces(api, namespaces)


def _say_what_is_watched(scope: tuple[str, ...] | None, namespaces: Sequence[str]) -> None:
    log.info("watching Providers in %s", "all namespaces" if scope is None else ", ".join(scope))
    missing = [] if scope is None else [each for each in namespaces if each not in scope]
    if missing:
        log.warning("Providers in %s may not be watched, asking again every %g s", ", ".join(missing), SCOPE_SECONDS)


async def _run_until_scope_moves(
    run: KopfThread, api: ApiClient, namespaces: Sequence[str], scope: tuple[str, ...] | None, stop: asyncio.Event
) -> bool:
    """Run kopf until `stop` is set, until it ends, or until other namespaces may be watched; whether it was that."""
    leave = asyncio.Event()

    async def look() -> bool:
        """Whether the scope has moved; where all that is served is watched, the watch itself notices what it loses."""
        partial = scope is not None and len(scope) < len(set(namespaces))
        try:
            while not await wait_for_event(stop, SCOPE_SECONDS):
                with suppress(SourceUnavailable):
                    if partial and await watched_namespaces(api, namespaces) != scope:
                        return True
            return False
        finally:
            leave.set()

    looking = asyncio.create_task(look(), name="scope of the watch")
    try:
        await run.until(leave)
    finally:
        ended = not looking.done()
        looking.cancel()
        await asyncio.wait([looking])
    return not ended and looking.result()


class _Waiting:
    """What we wait for, logged when it changes and every _REMIND_SECONDS, and the pause between two attempts."""

    def __init__(self) -> None:
        self._text = ""
        self._logged_at = 0.0
        self._pauses = 0

    def report(self, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if text != self._text or now - self._logged_at >= _REMIND_SECONDS:
            log.warning("%s", text)
            self._text, self._logged_at = text, now

    def next_pause(self) -> float:
        self._pauses += 1
        return backoff(self._pauses, _FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS)

    def reset(self) -> None:
        self._text, self._pauses = "", 0


class _OnLoop:
    """The operator as kopf's thread may call it."""

    def __init__(self, operator: Triggers, loop: asyncio.AbstractEventLoop) -> None:
        self._operator = operator
        self._loop = loop

    def enqueue(self, ref: ProviderRef) -> None:
        self._loop.call_soon_threadsafe(self._operator.enqueue, ref)

    def listed_again(self) -> None:
        self._loop.call_soon_threadsafe(self._operator.listed_again)


class KopfThread:
    """One run of kopf on a thread and an event loop of its own.

    On ours it would take SIGTERM and SIGINT for itself, and at its end cancel every task that was created after its
    start, the operator's own among them.
    """

    def __init__(
        self, triggers: Triggers, kubeconfig: Path | None, namespaces: tuple[str, ...] | None, pod: Pod | None
    ) -> None:
        self._triggers = triggers
        self._kubeconfig = kubeconfig
        self._namespaces = namespaces
        self._pod = pod
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flag: asyncio.Event | None = None
        self._stopping = threading.Event()
        self.ended_with = "no error"
        """Why it ended, in a word."""

    async def until(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, or until kopf ends by itself. Never raises what kopf raised."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        # A daemon, since a thread that hangs in somebody's TLS library must not keep the process from ending.
        thread = threading.Thread(target=self._run, args=(loop, ended), name="kopf", daemon=True)
        thread.start()
        try:
            await first_of(stop, ended)
        finally:
            self._ask_to_stop()
            if not await wait_for_event(ended, _STOP_SECONDS):
                log.warning("kopf did not stop within %g s; leaving its thread behind", _STOP_SECONDS)

    def _ask_to_stop(self) -> None:
        self._stopping.set()
        if self._loop is not None and self._flag is not None:
            with suppress(RuntimeError):  # its loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._flag.set)

    def _run(self, owner: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        def leave_behind() -> None:
            self.ended_with = "a stream ended, and the others do not"
            with suppress(RuntimeError):
                owner.call_soon_threadsafe(ended.set)

        try:
            asyncio.run(self._main(leave_behind))
        except Exception as error:
            self.ended_with = type(error).__name__
            if not _is_of_the_server(error):
                log.exception("kopf failed")
        finally:
            with suppress(RuntimeError):  # the owner's loop is closed: it no longer waits
                owner.call_soon_threadsafe(ended.set)

    async def _main(self, leave_behind: Callable[[], None]) -> None:
        self._flag, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if self._stopping.is_set():
            return
        try:
            operator = kopf.operator(
                registry=handlers(self._triggers, login_with(self._kubeconfig, self._pod)),
                settings=settings(),
                # Its own way to find one fails for a user id without a name, which is what a container has.
                identity=cast("Any", "memory-operator"),
                clusterwide=self._namespaces is None,
                namespaces=self._namespaces or (),
                stop_flag=self._flag,
            )
            streams = 1 if self._namespaces is None else len(self._namespaces)
            await run_unless_deaf(asyncio.create_task(operator, name="kopf"), streams, leave_behind)
        finally:
            # Streams that kopf closed are still in their TLS shutdown, and aiohttp has no call that waits for it.
            await asyncio.sleep(_TLS_SHUTDOWN_SECONDS)


async def run_unless_deaf(
    operator: asyncio.Task[None], streams: int, leave_behind: Callable[[], None], *, seconds: float = _DEAF_SECONDS
) -> None:
    """Wait for the end of kopf; where it lost a stream and does not end for so long, have it end, or be left behind.

    It ends when one of its streams fails, but may then wait for ever for another one, which swallowed its cancellation.
    """
    loop = asyncio.get_running_loop()
    heard_at = loop.time()
    cancelled: bool | None = None  # until all streams were seen
    while not operator.done():
        await asyncio.wait([operator], timeout=seconds / 10)
        there = [task for task in asyncio.all_tasks() if task.get_name().startswith(_STREAM)]
        if len(there) >= streams:
            heard_at, cancelled = loop.time(), False
        elif cancelled is not None and loop.time() - heard_at > seconds:
            if cancelled:
                leave_behind()
                break
            for task in there:
                task.cancel()
            heard_at, cancelled = loop.time(), True
    await operator


def _is_of_the_server(error: Exception) -> bool:
    """Whether a refusal or an outage of the API server ended kopf, rather than a mistake in it or in us."""
    # kopf's own class for an answer ≥ 400 is private; it is always raised from aiohttp's.
    ordinary = (kopf.LoginError, aiohttp.ClientError, OSError)
    return isinstance(error, ordinary) or isinstance(error.__cause__, ordinary)


def _quieten_kopf() -> None:
    """Silence kopf's own logs of ordinary events; why a run of it ended is logged here instead."""
    # Each attempt of each request while the API server is away is an error there; the operator's listing logs it once.
    logging.getLogger("kopf._cogs.clients").setLevel(logging.CRITICAL)
    # The same traceback at each level that it passes, and that we like being without signals.
    logging.getLogger("kopf._core.reactor").setLevel(logging.CRITICAL)
    logging.getLogger("kopf._core.engines").setLevel(logging.CRITICAL)
    logging.getLogger("kopf.activities").setLevel(logging.WARNING)
