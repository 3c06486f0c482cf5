"""Traces as a collector gets them from real processes, and what they cost where nobody takes them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.collector import Collector, Received
from fixtures.dev import Dev, free_port
from fixtures.engine import World
from fixtures.fills import complete, provider
from fixtures.processes import Processes
from fixtures.waiting import eventually, until
from memory_operator import traces
from memory_operator.errors import ConfigurationError
from vendor.stub import StubVendor

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TENANT = "acme-corporation"
TOKEN = "a-token-that-nobody-guesses-0123456789"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
RIGHTS = ["memories:create", "memories:get", "read"]
SERVER = 2
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    for name in (ENDPOINT, "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def started(database: str, folder: Path, vendor: StubVendor, *options: str) -> Dev:
    """`dev` on a database of the test's own, with a space that is ready."""
    dev = Dev(folder, "--database-url", database, *options)
    dev.apply("memory", provider(vendor))
    return dev


def one(spans: list[Received]) -> Received:
    assert len(spans) == 1, spans
    return spans[0]


def test_a_request_is_one_trace_that_goes_on_from_the_callers(
    database: str, tmp_path: Path, vendor: StubVendor, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT, collector.endpoint)
    monkeypatch.setenv("MEMORY_LOG_FORMAT", "json")
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([{"name": "a", "sha256": DIGEST, "tenant": TENANT, "rights": RIGHTS}]))
    dev = started(database, tmp_path, vendor, "--auth-mode", "tokens", "--tokens-file", str(tokens))
    dev.client.headers["authorization"] = f"Bearer {TOKEN}"
    try:
        dev.start()
        dev.until_ready(64)
        dev.client.headers["traceparent"] = f"00-{TRACE}-{CALLER}-01"
        dev.client.headers["x-request-id"] = "adding"
        dev.post("/memory/add", {"text": "the secret recipe has saffron", "project": "kitchen-secrets"})
        dev.client.headers["x-request-id"] = "asking"
        dev.post("/memory/query", {"query": "which spice is in it", "project": "kitchen-secrets"})
        vendor.stop()
        dev.client.headers["x-request-id"] = "asking-again"
        dev.post("/memory/query", {"query": "which herb is in it", "project": "kitchen-secrets"})
        assert dev.stop() == 0
    finally:
        dev.close()
    add = one(collector.named("POST /memory/add"))
    query, later = collector.named("POST /memory/query")
    for request, request_id in ((add, "adding"), (query, "asking"), (later, "asking-again")):
        assert (request.trace_id, request.parent_id, request.kind) == (TRACE, CALLER, SERVER)
        assert request.service == "memory-operator-dev"
        assert request.attributes["memory.request_id"] == request_id
        assert request.attributes["http.route"] in ("/memory/add", "/memory/query")
    assert (add.attributes["http.response.status_code"], query.attributes["http.response.status_code"]) == (201, 200)
    below_add = {span.name: span for span in collector.spans if span.parent_id == add.span_id}
    assert set(below_add) == {"add.preprocess", "add.embed", "add.store"}
    below_query = {span.name: span for span in collector.spans if span.parent_id == query.span_id}
    assert set(below_query) == {"query.fulltext", "query.embed", "query.semantic", "query.read"}
    assert below_query["query.semantic"].attributes["memory.hits"] == 1
    for parent, purpose in ((below_add["add.embed"], "add"), (below_query["query.embed"], "query")):
        call = one([span for span in collector.named("embed") if span.parent_id == parent.span_id])
        assert call.attributes["memory.purpose"] == purpose
        assert call.attributes["memory.provider"].endswith("/memory")
        assert call.attributes["memory.embedding_version"]
        assert call.attributes["memory.texts"] == 1
        assert call.attributes["memory.tokens"] > 0
    assert [span.error for span in collector.named("embed") if span.error] == ["EmbedderUnreachable"]
    everything = b"".join(collector.bodies)
    for withheld in ("saffron", "spice", "herb", "kitchen-secrets", TENANT, TOKEN):
        assert withheld.encode() not in everything
    records = [json.loads(line) for line in dev.log.read_text().splitlines() if line.startswith("{")]
    [told] = [record for record in records if "a query is answered without" in record["message"]]
    assert (told["request_id"], told["trace_id"]) == ("asking-again", TRACE)
    assert all("trace_id" not in record for record in records if "listens on" in record["message"])


async def test_a_fill_shows_its_stages(
    world: World,
    processes: Processes,
    vendor: StubVendor,
    collector: Collector,
) -> None:
    await world.stored(50)
    processes.environment |= {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.endpoint}/v1/traces",
        "OTEL_SERVICE_NAME": "filling",
        "NO_PROXY": "127.0.0.1",
    }
    async with world.operator():
        ref = world.cluster.apply("memory", provider(vendor))
        worker = processes.start("worker")
        await until(lambda: complete(world), "the fill is complete")
        assert worker.stop() == 0
    job = await world.value("select id from memory_reembed_jobs")
    version = await world.value("select embedding_version from memory_embedding_spaces")
    stages = [collector.named(f"fill.{stage}") for stage in ("read", "call", "write")]
    for spans in stages:
        assert spans
        for span in spans:
            assert span.service == "filling"
            assert span.error is None
            assert span.attributes["memory.provider"] == str(ref)
            assert span.attributes["memory.embedding_version"] == version
            assert span.attributes["memory.job"] == job
    reads, calls, writes = stages
    assert sum(span.attributes["memory.chunks"] for span in reads) == 50
    assert sum(span.attributes["memory.texts"] for span in calls) == 50
    assert all(span.attributes["memory.tokens"] > 0 for span in calls)
    assert sum(span.attributes["memory.vectors"] for span in writes) == 50


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {ENDPOINT: ""},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_nothing_is_sent_where_nobody_wants_it(
    database: str,
    tmp_path: Path,
    vendor: StubVendor,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    for name, value in {ENDPOINT: collector.endpoint, **variables}.items():
        monkeypatch.setenv(name, value)
    dev = started(database, tmp_path, vendor)
    try:
        dev.start()
        dev.until_ready(64)
        dev.post("/memory/add", {"text": "a text"})
        assert dev.stop() == 0
    finally:
        dev.close()
    assert not collector.bodies


@pytest.mark.parametrize("there", [False, True], ids=["away", "silent"])
def test_a_collector_that_takes_nothing_costs_requests_nothing(
    database: str, tmp_path: Path, vendor: StubVendor, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    with Collector(silent=True) as collector:
        monkeypatch.setenv(ENDPOINT, collector.endpoint if there else f"http://127.0.0.1:{free_port()}")
        dev = started(database, tmp_path, vendor)
        try:
            dev.start()
            dev.until_ready(64)
            if there:
                dev.post("/memory/add", {"text": "the first"})
                eventually(collector.heard.is_set, "a request that is not answered")
            tried = len(collector.bodies)
            for number in range(100):
                dev.post("/memory/query", {"query": f"number {number}"})
            assert len(collector.bodies) - tried < 10  # no request waits for an attempt to send
            assert dev.stop() == 0
        finally:
            dev.close()


@pytest.mark.parametrize("module", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"])
def test_what_is_not_installed_is_named(module: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from memory_operator.cli import main; main()"
    environment = {ENDPOINT: "http://127.0.0.1:4318", "MEMORY_MASTER_KEY_FILE": str(tmp_path / "key")}
    done = subprocess.run(
        [sys.executable, "-c", code, "worker"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert ENDPOINT in done.stderr
    assert "pip install 'memory-operator[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({ENDPOINT: "collector:4318"}, ENDPOINT),
        ({ENDPOINT: "ftp://collector"}, ENDPOINT),
        ({ENDPOINT: "http://collector:port"}, ENDPOINT),
        ({ENDPOINT: "http://[::1"}, ENDPOINT),
        ({ENDPOINT: "http://user:hunter2@collector"}, "OTEL_EXPORTER_OTLP_HEADERS"),
        ({ENDPOINT: "http://collector", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "hunter2"}, "_TRACES_ENDPOINT"),
        ({ENDPOINT: "http://collector", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
def test_variables_that_cannot_be_used_are_refused_by_name(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError) as refused, traces.exported("api", variables):
        raise AssertionError("it began")
    assert named in f"{refused.value.message} {refused.value.hint}"
    assert "hunter2" not in f"{refused.value.message} {refused.value.hint}"


def test_without_an_endpoint_nothing_is_imported_and_spans_are_one_object() -> None:
    code = (
        "import sys\n"
        "from memory_operator import traces\n"
        "with traces.exported('api', {}):\n"
        "    with traces.span('a', chunks=1) as one, traces.request_span({}, 'id') as other:\n"
        "        one.note(chunks=2)\n"
        "        other.answered('GET', '/', 200)\n"
        "assert one is other\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
