from __future__ import annotations

import asyncio
import socket

import pytest

from fixtures.waiting import WAIT_SECONDS, ends, until
from memory_operator.embedders import EmbedderPool
from memory_operator.embedders.http.transport import MAX_PRIVATE_CAS
from memory_operator.errors import ConfigurationError, EmbedderUnreachable
from memory_operator.plan.space import CallConfig
from memory_operator.turns import TURN, Turns
from vendor import Fault, StubVendor


async def ask(embedder, timeout=10.0):
    return await embedder.embed(["text"], mode="document", timeout=timeout, dimensions=48)


@pytest.mark.parametrize("fault", [Fault(hold=True), Fault(trickle_ms=50)])
async def test_a_call_ends_at_its_deadline_whether_the_vendor_is_silent_or_slow(make, vendor, fault):
    vendor.fault = fault
    with pytest.raises(EmbedderUnreachable, match=r"did not answer within 0.3 s"):
        await ends(ask(make(), timeout=0.3), "the end of the call")


async def test_a_vendor_that_is_down_is_unreachable_and_is_found_again_when_it_is_back(make, vendor):
    embedder = make()
    await ask(embedder)
    vendor.stop()
    with pytest.raises(EmbedderUnreachable, match="connection refused"):
        await ask(embedder)
    vendor.start()
    assert (await ask(embedder)).vectors.shape == (1, 48)


@pytest.mark.parametrize("reset", ["before", "midway"])
async def test_a_connection_that_breaks_is_told_as_unreachable(make, vendor, reset):
    vendor.fault = Fault(reset=reset)
    with pytest.raises(EmbedderUnreachable, match="broke the connection off"):
        await ask(make())


async def test_a_connection_that_the_server_has_just_given_up_is_replaced_once(make, vendor):
    vendor.fault = Fault(reset="quietly", times=1)
    assert (await ask(make())).vectors.shape == (1, 48)
    assert vendor.count == 2

    vendor.fault = Fault(reset="quietly")
    with pytest.raises(EmbedderUnreachable, match="broke the connection off"):
        await ask(make())
    assert vendor.count == 4


async def test_a_host_that_does_not_exist_is_told_as_such(make):
    with pytest.raises(EmbedderUnreachable, match=r"vendor\.invalid cannot be reached: its name"):
        await ask(make(base_url="http://vendor.invalid/v1"))


async def test_connections_are_kept_and_shared(make, vendor):
    for _ in range(3):
        await ask(make())
    assert len({call.headers["host"] for call in vendor.calls}) == 1
    assert vendor.calls[0].headers["connection"] == "keep-alive"


async def test_calls_run_side_by_side(make, vendor):
    vendor.fault = Fault(hold=True)
    calls = [asyncio.create_task(ask(make()), name=f"call {number}") for number in range(20)]
    await asyncio.to_thread(vendor.wait_for_calls, 20)
    vendor.fault = None
    await asyncio.gather(*calls)
    assert vendor.peak_in_flight == 20


async def test_who_waits_for_a_vendor_keeps_no_other_request_of_their_tenant_waiting(make, vendor):
    turns = Turns(8, at_work_beside=1, at_work_seconds=1e6)
    await turns.take("other", "caller")
    vendor.fault = Fault(hold=True)

    async def request():
        turn = await turns.take("tenant", "caller")
        TURN.set(turn)
        await ask(make(), timeout=WAIT_SECONDS)
        turns.give_back(turn)

    calls = [asyncio.create_task(request(), name=f"request {number}") for number in range(4)]
    await asyncio.to_thread(vendor.wait_for_calls, 4)
    vendor.fault = None
    await ends(asyncio.gather(*calls), "all are answered")


async def test_a_cookie_is_not_sent_back(make, vendor):
    await ask(make())
    await ask(make())
    assert "cookie" not in vendor.calls[1].headers


async def test_a_private_ca_is_trusted_where_it_is_given_and_nowhere_else(pool, make):
    with StubVendor(dimensions=48, tls=True) as private:
        assert (await ask(make(base_url=private.base_url, ca_pem=private.ca_pem))).vectors.shape == (1, 48)
        with pytest.raises(EmbedderUnreachable, match="its certificate is not trusted") as refused:
            await ask(make(base_url=private.base_url))
    assert "caSecretRef" in refused.value.hint


async def test_https_spoken_to_an_http_port_says_so(make, vendor):
    with pytest.raises(EmbedderUnreachable, match="the TLS handshake failed"):
        await ask(make(base_url=vendor.base_url.replace("http:", "https:")))


async def test_a_server_that_never_answers_a_handshake_is_given_up_in_time(make):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections wait in its backlog for ever
        port = silent.getsockname()[1]
        with pytest.raises(EmbedderUnreachable, match="did not accept a connection"):
            await ask(make(base_url=f"https://127.0.0.1:{port}/v1"), timeout=0.5)


async def test_old_private_cas_do_not_pile_up(pool, make):
    with StubVendor(dimensions=48, tls=True) as private:
        assert private.ca_pem is not None
        for number in range(MAX_PRIVATE_CAS + 3):
            await ask(make(base_url=private.base_url, ca_pem=private.ca_pem + "\n" * number))
    assert len(pool._wire._lines) <= MAX_PRIVATE_CAS + 1


async def test_a_ca_that_is_no_certificate_is_a_configuration_error(make):
    with pytest.raises(ConfigurationError, match="not a PEM certificate"):
        make(ca_pem="not a certificate")


def configured(base_url):
    return CallConfig(namespace="agents", type="openai", model="m", base_url=base_url)


async def test_proxy_variables_are_honoured(vendor, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", vendor.root_url)
    async with EmbedderPool() as pool:
        await ask(pool.embedder(configured("http://embedder.invalid/v1"), None, None))
    assert vendor.calls[0].target == "http://embedder.invalid/v1/embeddings"


async def test_a_proxy_of_an_unknown_kind_is_a_configuration_error_where_the_network_is_needed(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy:70")
    async with EmbedderPool() as pool:
        with pytest.raises(ConfigurationError, match="proxy variable"):
            pool.embedder(configured("http://embedder.invalid/v1"), None, None)


async def test_a_closed_pool_leaves_no_connection(vendor):
    async with EmbedderPool() as pool:
        await ask(pool.embedder(configured(vendor.base_url), None, None))
        assert vendor.connections == 1
    await until(lambda: vendor.connections == 0, "no connection is open")  # the vendor hears of it a moment later
