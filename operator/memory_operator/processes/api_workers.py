"""`memory-operator api --workers N`: processes that serve one listening socket, and the one that owns them.

The owner has the socket, and accepts nothing. Each worker is the same command once more, which finds the socket and a
line to its owner in a variable: the owner asks there whether it is ready, and for its metrics. A worker whose line ends
stops, so that none outlives its owner; one that ends is started anew, and what waits to be accepted meanwhile is the
others'.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from memory_operator.backoff import backoff, wait_for_event
from memory_operator.errors import ConfigurationError
from memory_operator.http.server.probes import NotReady, serve_probes
from memory_operator.http.server.uvicorn import bind_or_say_why
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics
from memory_operator.processes.options import ApiOptions
from memory_operator.processes.runtime import STOP_SECONDS, run_parts

log = get_logger(__name__)

VARIABLE = "MEMORY_API_WORKER"
"""What a worker was given: its number, the listening socket, its line to the owner."""

_USAGE = 2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_HEALTHY_SECONDS = 60.0
"""A worker that ran so long and then ended has not failed before."""
_ANSWER_SECONDS = 2.0
_KILL_SECONDS = STOP_SECONDS - 2
_LINE_BYTES = 1 << 22
_NOT_READY, _METRICS = "not ready", "metrics"
"""What a worker is asked."""
_NO_ANSWER = (TimeoutError, ConnectionError, ValueError)
_SAME_COMMAND = "from memory_operator.cli import main; main()"


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """What a worker was given."""

    number: int
    listener: socket.socket
    line: socket.socket


def place_of(environment: Mapping[str, str]) -> WorkerPlace | None:
    """What this process was given, where it is a worker."""
    given = environment.get(VARIABLE)
    if given is None:
        return None
    number, listener, line = map(int, given.split(":"))
    return WorkerPlace(number, socket.socket(fileno=listener), socket.socket(fileno=line))


async def answer_owner(place: WorkerPlace, not_ready: NotReady, metrics: Metrics, stop: asyncio.Event) -> None:
    """Tell the owner what it asks, until `stop` is set or the owner is gone."""
    reader, writer = await asyncio.open_connection(sock=place.line, limit=_LINE_BYTES)
    stopping = asyncio.create_task(stop.wait(), name="end of the line to the owner")
    try:
        while True:
            question = asyncio.create_task(reader.readline(), name="question of the owner")
            await asyncio.wait([question, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not question.done() or not question.result():
                question.cancel()
                return
            number, wanted = json.loads(question.result())
            found = await not_ready() if wanted == _NOT_READY else (await metrics.text()).decode()
            writer.write(json.dumps([number, found]).encode() + b"\n")
            await writer.drain()
    except ConnectionError:
        return  # the owner was killed
    finally:
        stopping.cancel()
        writer.close()


class ApiWorker:
    """One worker, as its owner sees it."""

    def __init__(self, number: int, listener: socket.socket, environment: Mapping[str, str]) -> None:
        self.number = number
        self._listener = listener
        self._environment = environment
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._questions = 0
        self._one_question = asyncio.Lock()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the worker running until `stop` is set. Raises ConfigurationError where it cannot start at all."""
        failures = 0
        while not stop.is_set():
            began = time.monotonic()
            status = await self._run_once(stop)
            if stop.is_set():
                return
            if status == _USAGE:
                raise ConfigurationError("the API cannot start", hint="its worker has said why")
            failures = 1 if time.monotonic() - began >= _HEALTHY_SECONDS else failures + 1
            pause = backoff(failures, _FIRST_PAUSE, _LONGEST_PAUSE)
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            log.error("API worker %d ended %s, retrying in %.1f s", self.number, how, pause)
            await wait_for_event(stop, pause)

    async def not_ready(self) -> str | None:
        """Why the worker is not ready; None when it is."""
        try:
            return await self._reply_to(_NOT_READY)
        except _NO_ANSWER:
            return f"memory: API worker {self.number} does not answer"

    async def metrics(self) -> str:
        """Its metrics; none where it does not answer."""
        try:
            return await self._reply_to(_METRICS) or ""
        except _NO_ANSWER:
            return ""

    async def _reply_to(self, wanted: str) -> str | None:
        async with asyncio.timeout(_ANSWER_SECONDS), self._one_question:
            return await self._answer(wanted)

    async def _answer(self, wanted: str) -> str | None:
        if self._line is None:
            raise ConnectionError
        reader, writer = self._line
        self._questions += 1
        question = self._questions
        writer.write(json.dumps([question, wanted]).encode() + b"\n")
        while True:  # an answer that came too late for its question comes first
            number, found = json.loads(await reader.readline())
            if number == question:
                return None if found is None else str(found)

    async def _run_once(self, stop: asyncio.Event) -> int:
        ours, theirs = socket.socketpair()
        given = f"{self.number}:{self._listener.fileno()}:{theirs.fileno()}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _SAME_COMMAND, *sys.argv[1:]),
            pass_fds=(self._listener.fileno(), theirs.fileno()),
            env={**self._environment, VARIABLE: given},
        )
        theirs.close()
        self._line = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
        ending = asyncio.create_task(process.wait(), name=f"end of API worker {self.number}")
        stopping = asyncio.create_task(stop.wait(), name=f"stop of API worker {self.number}")
        try:
            await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                process.send_signal(signal.SIGTERM)
                await asyncio.wait([ending], timeout=_KILL_SECONDS)
        finally:
            stopping.cancel()
            self._line[1].close()
            self._line = None
            if not ending.done():
                process.kill()
        return await ending


class _Workers:
    """All of them, as the probes and Prometheus see them."""

    def __init__(self, workers: Iterable[ApiWorker]) -> None:
        self._workers = list(workers)

    async def not_ready(self) -> str | None:
        """Why no worker is ready; None when one is."""
        reasons = await asyncio.gather(*(worker.not_ready() for worker in self._workers))
        return None if None in reasons else reasons[0]

    async def text(self) -> bytes:
        """The metrics of each worker, under its number: each counts for itself, and from zero when it is started."""
        families: dict[str, list[str]] = {}
        texts = await asyncio.gather(*(worker.metrics() for worker in self._workers))
        for worker, text in zip(self._workers, texts, strict=True):
            for line in text.splitlines():
                if line.startswith("# "):
                    family = families.setdefault(line.split()[2], [])
                    if line not in family:
                        family.append(line)
                else:
                    family.append(_labelled(line, worker.number))
        return "".join(f"{line}\n" for family in families.values() for line in family).encode()


def _labelled(sample: str, number: int) -> str:
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f'{name}{{worker="{number}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{worker="{number}"}} {value}'


async def run_api_workers(options: ApiOptions, stop: asyncio.Event) -> None:
    """Own so many workers until `stop` is set. Raises ConfigurationError."""
    with bind_or_say_why(options.host, options.port, listen=False) as listener:  # the first that is ready listens
        workers = [ApiWorker(number, listener, options.environment) for number in range(options.workers)]
        seen = _Workers(workers)

        async def probes(stop: asyncio.Event) -> None:
            await serve_probes(options.probe_host, options.probe_port, ready=seen.not_ready, metrics=seen, stop=stop)

        log.info("%d API workers serve %s port %d", options.workers, options.host, options.port)
        await run_parts(stop, probes=probes, **{f"API worker {each.number}": each.run for each in workers})
