"""Stub vendors as tests hold them: one in a thread of this process, one in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vendor.authority import Authority
from vendor.script import Call, Fault, Script
from vendor.server import CONTROL, VendorServer
from vendor.tls import private_ca
from vendor.vectors import Codebook

START_SECONDS = 30.0
Faults = Fault | Sequence[Fault] | None


class StubVendor:
    """An embedding vendor in a thread, to be told from the test what to do while it runs.

        with StubVendor(dimensions=768) as vendor:
            vendor.fault = Fault(status=429, retry_after="1", times=2)

    It speaks OpenAI's form under `base_url`; under `root_url` those of Ollama, Voyage AI, Cohere, Gemini and Azure, and
    the rerank APIs of Cohere, Voyage AI, Jina and text-embeddings-inference.
    """

    def __init__(
        self,
        dimensions: int = 768,
        *,
        models: Mapping[str, int] | None = None,
        api_key: str | None = None,
        latency_ms: float = 0,
        tls: bool = False,
        port: int = 0,
        record: bool = True,
    ) -> None:
        """Parameters as the fields of `Script`; `tls` serves https under a private CA, see `ca_pem`."""
        self._script = Script(
            dimensions=dimensions, models=models, api_key=api_key, latency_ms=latency_ms, record=record
        )
        self._port = port
        self.ca_pem: str | None = None
        self._tls: ssl.SSLContext | None = None
        if tls:
            self.ca_pem, self._tls = private_ca()
        self._server: VendorServer | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after a stop on the same port as before."""
        assert self._thread is None, "the stub vendor runs already"
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="stub-vendor", daemon=True)
        self._thread.start()
        assert ready.wait(START_SECONDS), "the stub vendor did not start"
        if self._failure is not None:
            failure, self._failure, self._thread = self._failure, None, None
            raise failure

    def stop(self) -> None:
        """Refuse connections from now on and cut those that are open: the vendor is down."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive(), "the stub vendor did not stop"
        self._thread = self._loop = self._stop = None

    @property
    def root_url(self) -> str:
        """For a Provider of type ollama."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """For a Provider of type openai or openai_compatible."""
        return f"{self.root_url}/v1"

    @property
    def port(self) -> int:
        """The port, the same after each start."""
        return self._port

    @property
    def fault(self) -> Faults:
        """What goes wrong; of several, the first that applies to a call. None: nothing."""
        return tuple(self._script.faults) or None

    @fault.setter
    def fault(self, fault: Faults) -> None:
        faults = [] if fault is None else [fault] if isinstance(fault, Fault) else list(fault)
        self._on_loop(lambda: self._script.set_faults(faults))

    @property
    def latency_ms(self) -> float:
        """How long each answer takes."""
        return self._script.latency_ms

    @latency_ms.setter
    def latency_ms(self, latency_ms: float) -> None:
        self._script.latency_ms = latency_ms

    @property
    def api_key(self) -> str | None:
        """The one key that is accepted; None accepts all."""
        return self._script.api_key

    @api_key.setter
    def api_key(self, api_key: str | None) -> None:
        self._script.api_key = api_key

    @property
    def relevant(self) -> Mapping[str, float]:
        """Scores of the rerank APIs: see `Script.relevant`."""
        return self._script.relevant

    @relevant.setter
    def relevant(self, relevant: Mapping[str, float]) -> None:
        self._script.relevant = relevant

    @property
    def dimensions(self) -> int:
        """Length of the vectors of every model, where no `models` were given."""
        return self._script.dimensions

    @dimensions.setter
    def dimensions(self, dimensions: int) -> None:
        self._script.dimensions = dimensions

    @property
    def authority(self) -> Authority:
        """Who gives tokens for workload identities, under `root_url` too."""
        return self._script.authority

    @property
    def calls(self) -> list[Call]:
        """All calls that arrived, refused ones too."""
        return list(self._script.calls)

    @property
    def count(self) -> int:
        """Number of calls that arrived."""
        return self._script.count

    @property
    def inputs(self) -> list[str]:
        """All texts that arrived, with their prefixes."""
        return [text for call in self.calls for text in call.inputs]

    @property
    def keys(self) -> list[str | None]:
        """The key of each call."""
        return [call.key for call in self.calls]

    @property
    def in_flight(self) -> int:
        """Calls that wait for their answer."""
        return self._script.in_flight

    @property
    def connections(self) -> int:
        """Connections that are open at this moment."""
        return self._server.connections if self._server else 0

    @property
    def peak_in_flight(self) -> int:
        """Most calls that ever waited at once."""
        return self._script.peak_in_flight

    def forget(self) -> None:
        """Begin anew with counting."""
        self._script.calls.clear()
        self._script.count = self._script.texts = self._script.peak_in_flight = 0

    def wait_for_calls(self, count: int) -> None:
        """Block until so many calls have arrived in all. Not to be called on an event loop under test."""
        deadline = time.monotonic() + START_SECONDS
        while self.count < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the stub vendor has had {self.count} calls, not {count}")
            time.sleep(0.005)

    def vector(self, text: str, model: str, dimensions: int | None = None) -> NDArray[np.float32]:
        """The vector that the vendor gives to `text` (with its prefix), for comparison."""
        return Codebook(model, dimensions or self._script.length_of(model) or 0).vector(text)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except OSError as failure:
            self._failure = failure
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        server = self._server = VendorServer(self._script)
        self._port = await server.start("127.0.0.1", self._port, self._tls)
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._stop.wait()
        await server.close()

    def _on_loop(self, change: Callable[[], None]) -> None:
        """Make a change on the vendor's loop, done when this returns; before the start there is none."""
        if self._loop is None:
            change()
            return
        done = threading.Event()

        def changed() -> None:
            change()
            done.set()

        self._loop.call_soon_threadsafe(changed)
        assert done.wait(START_SECONDS), "the stub vendor's loop is stuck"


class VendorProcess:
    """A stub vendor in a process of its own, for measurements: it takes no time of our interpreter."""

    def __init__(
        self,
        dimensions: int = 768,
        *,
        latency_ms: float = 0,
        api_key: str | None = None,
        fast: bool = False,
        **habits: Any,
    ) -> None:
        """Parameters as those of `StubVendor`; calls are counted, not kept.

        With `fast` it is a `FastVendor`, which takes its other habits too but no faults; `set` changes habits.
        """
        assert fast or not habits, f"only a fast vendor has {sorted(habits)}"
        options = {"port": 0, "dimensions": dimensions, "latency_ms": latency_ms, "api_key": api_key, **habits}
        self._arguments = ["--fast"] if fast else []
        for name, value in options.items():
            if value is True:
                self._arguments.append(_option(name))
            elif value is not None and value is not False:
                self._arguments += [_option(name), str(value)]
        self._process: subprocess.Popen[str] | None = None
        self.root_url = ""

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vendor", *self._arguments], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        self.root_url = self._process.stdout.readline().strip()
        assert self.root_url, "the stub vendor did not start"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(START_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def base_url(self) -> str:
        """For a Provider of type openai or openai_compatible."""
        return f"{self.root_url}/v1"

    @property
    def pid(self) -> int:
        """Its process id, for counting its CPU time apart."""
        assert self._process is not None
        return self._process.pid

    def set(self, *, fault: Faults = None, latency_ms: float | None = None, **habits: Any) -> None:
        """Change what goes wrong, and how long an answer takes; of a fast one its habits."""
        faults = [] if fault is None else [fault] if isinstance(fault, Fault) else list(fault)
        wanted: dict[str, Any] = {"faults": [asdict(one) for one in faults], **habits}
        if latency_ms is not None:
            wanted["latency_ms"] = latency_ms
        self._control("script", wanted)

    def seen(self) -> dict[str, Any]:
        """`count` of calls, of `texts`, `in_flight` now, `peak_in_flight`; of a fast one all of `Seen`, `distinct`."""
        return self._control("seen", {})

    def forget(self) -> None:
        """Begin anew with counting."""
        self._control("forget", {})

    def _control(self, what: str, wanted: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.root_url}{CONTROL}/{what}", data=json.dumps(wanted).encode(), method="POST"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=START_SECONDS) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
