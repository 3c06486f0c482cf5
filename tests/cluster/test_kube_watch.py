"""kopf on a real API server: what it tells the operator, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import ControlPlane
from fixtures.kube import Namespace
from fixtures.waiting import WAIT_SECONDS, ends, until
from memory_operator.contract.resource import ProviderRef
from memory_operator.kube.client import Pod, namespace_of
from memory_operator.kube.kopf_thread import run_kopf


class Recorder:
    """Stands for the operator."""

    def __init__(self) -> None:
        self.enqueued: list[ProviderRef] = []
        self.listings = 0
        self.threads: set[int] = set()

    def enqueue(self, ref: ProviderRef) -> None:
        self.threads.add(threading.get_ident())
        self.enqueued.append(ref)

    def listed_again(self) -> None:
        self.threads.add(threading.get_ident())
        self.listings += 1


@asynccontextmanager
async def watching(
    kubeconfig: Path | None, namespaces: Sequence[str], pod: Pod | None = None
) -> AsyncIterator[Recorder]:
    """A running watch, which must end soon after it is told to."""
    recorder, stop = Recorder(), asyncio.Event()
    task = asyncio.create_task(run_kopf(recorder, kubeconfig, namespaces, stop, pod=pod), name="watch")
    try:
        yield recorder
        assert not task.done(), task.result()
    finally:
        stop.set()
        await ends(task, "the end of the watch")
    assert recorder.threads <= {threading.get_ident()}, "the operator is called on its own loop only"


async def test_what_a_person_changes_is_told_and_what_we_write_ourselves_is_not(served: Namespace) -> None:
    ref = ProviderRef(served.name, "memory-embeddings")
    served.provider()
    async with watching(served.kubeconfig_of("memory-operator"), [served.name]) as heard:
        await until(lambda: heard.enqueued == [ref], "a Provider that was there before is told")
        served.kubectl(
            "patch", "provider", ref.name, "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Ready"}}'
        )
        served.kubectl("annotate", "provider", ref.name, "memory-operator/embedding-status={}")
        served.kubectl("label", "provider", ref.name, "team=a")
        served.provider(model="other")
        await until(lambda: len(heard.enqueued) >= 2, "an edit is told")
        served.kubectl("annotate", "provider", ref.name, "memory-operator/dimensionChange=Shadow")
        await until(lambda: len(heard.enqueued) >= 3, "a field in an annotation is told")
        live = served.get("provider", ref.name)
        assert live["metadata"].get("finalizers") is None
        assert not any("kopf" in key for key in live["metadata"]["annotations"])
        served.kubectl("delete", "provider", ref.name, "--timeout=10s")
        await until(lambda: heard.listings == 1, "a deletion asks for a listing")
        served.provider(name="second")
        await until(lambda: heard.enqueued[-1].name == "second", "a new one is told")
    assert heard.enqueued == [ref, ref, ref, ProviderRef(served.name, "second")]
    assert heard.listings == 1


async def test_providers_elsewhere_are_told_where_rbac_allows_to_see_them(
    served: Namespace, elsewhere: Namespace
) -> None:
    served.control_plane.apply_rbac(served.name, everywhere=True)
    async with watching(served.kubeconfig_of("memory-operator"), [served.name]) as heard:
        elsewhere.provider()
        await until(lambda: ProviderRef(elsewhere.name, "memory-embeddings") in heard.enqueued, "one elsewhere is told")


async def test_without_that_permission_the_served_namespaces_are_watched(
    served: Namespace, elsewhere: Namespace
) -> None:
    async with watching(served.kubeconfig_of("memory-operator"), [served.name]) as heard:
        elsewhere.provider()
        served.provider()
        await until(lambda: heard.enqueued, "the one in the served namespace is told")
    assert {ref.namespace for ref in heard.enqueued} == {served.name}


async def test_one_namespace_that_may_not_be_watched_keeps_nothing_from_the_others_and_is_watched_once_it_may_be(
    served: Namespace, elsewhere: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    served.provider()
    elsewhere.provider()
    both = [served.name, elsewhere.name]
    async with watching(served.kubeconfig_of("memory-operator"), both) as heard:
        await until(lambda: heard.enqueued, "the Provider of the one is told")
        assert f"Providers in {elsewhere.name} may not be watched" in caplog.text
        await asyncio.to_thread(elsewhere.let_in, served)
        await until(lambda: elsewhere.name in {ref.namespace for ref in heard.enqueued}, "that of the other is told")
    assert "the watch of Providers ended" not in caplog.text


async def test_a_role_that_is_taken_away_in_one_namespace_keeps_nothing_from_the_others(
    served: Namespace, elsewhere: Namespace, control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(elsewhere.let_in, served)
    served.provider()
    elsewhere.provider()
    both = [served.name, elsewhere.name]
    async with watching(served.kubeconfig_of("memory-operator"), both) as heard:
        await until(lambda: {ref.namespace for ref in heard.enqueued} == set(both), "both are watched")
        elsewhere.kubectl("delete", "role,rolebinding", "from-elsewhere")
        await asyncio.to_thread(control_plane.kill)  # the streams begin anew, and one of them is refused
        refused = f"Providers in {elsewhere.name} may not be watched"
        await until(lambda: refused in caplog.text, "the namespace is left out of the watch")
        so_far = len(heard.enqueued)
        await asyncio.to_thread(served.provider, model="other")
        await until(lambda: len(heard.enqueued) > so_far, "an edit in the other is told")


async def test_it_waits_for_the_crd_and_says_so_once(served: Namespace, caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.to_thread(served.remove_crd)
    async with watching(served.kubeconfig_of("memory-operator"), [served.name]) as heard:
        await until(lambda: "is not installed" in caplog.text, "the missing CRD is named")
        await asyncio.to_thread(served.install_crd, "ours")
        served.provider()
        await until(lambda: heard.enqueued, "a Provider is told")
        assert caplog.text.count("is not installed") == 1


async def test_it_survives_that_the_crd_is_removed_and_comes_back(
    served: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    served.provider()
    async with watching(served.kubeconfig_of("memory-operator"), [served.name]) as heard:
        await until(lambda: heard.enqueued, "it watches")
        await asyncio.to_thread(served.remove_crd)
        await until(lambda: "is not installed" in caplog.text, "the missing CRD is named")
        await asyncio.to_thread(served.install_crd, "ours")
        served.provider(name="second")
        await until(lambda: heard.enqueued[-1].name == "second", "a Provider is told")
    assert "Traceback" not in caplog.text


async def test_it_survives_a_restart_of_the_api_server_and_does_not_flood_the_log(
    served: Namespace, control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    served.provider()
    async with watching(served.kubeconfig_of("memory-operator"), [served.name]) as heard:
        await until(lambda: heard.enqueued, "it watches")
        await asyncio.to_thread(control_plane.kill)
        await asyncio.to_thread(served.provider, model="other")
        await until(lambda: len(heard.enqueued) >= 2, "an edit after the outage is told")
    assert len(caplog.records) < 10


async def test_it_waits_for_an_api_server_that_is_not_there_yet(
    served: Namespace, control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    served.provider()
    kubeconfig = served.kubeconfig_of("memory-operator")
    with control_plane.down():
        async with watching(kubeconfig, [served.name]) as heard:
            await until(lambda: "cannot be reached" in caplog.text, "the outage is named")
            await asyncio.to_thread(control_plane.start_api_server)
            await until(lambda: heard.enqueued, "a Provider is told")


async def test_a_renewed_token_file_ends_a_wait_for_a_login(
    served: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    served.provider()
    kubeconfig = served.kubeconfig_of("memory-operator")
    token = kubeconfig.with_name("memory-operator.token")
    token.write_text("stale")
    async with watching(kubeconfig, [served.name]) as heard:
        await until(lambda: "401" in caplog.text, "the refused token is named")
        token.write_text(served.token_of("memory-operator"))
        await until(lambda: heard.enqueued, "a Provider is told")
    assert "stale" not in caplog.text


async def test_in_a_pod_it_is_the_pods_service_account(
    served: Namespace, control_plane: ControlPlane, tmp_path: Path
) -> None:
    served.provider()
    for name, text in {
        "token": served.token_of("memory-operator"),
        "ca.crt": control_plane.address.certificate.read_text(),
        "namespace": served.name,
    }.items():
        (tmp_path / name).write_text(text)
    port = str(control_plane.address.port)
    pod = Pod(tmp_path, {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port})
    async with watching(None, [namespace_of(None, pod=pod)], pod) as heard:
        await until(lambda: heard.enqueued, "a Provider is told")


async def test_tasks_and_signal_handlers_of_ours_are_ours(served: Namespace) -> None:
    served.provider()
    heard_signal, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, heard_signal.set)
    loop.add_signal_handler(signal.SIGTERM, heard_signal.set)
    before = asyncio.create_task(asyncio.sleep(3600), name="before")
    try:
        async with watching(served.kubeconfig_of("memory-operator"), [served.name]) as heard:
            await until(lambda: heard.enqueued, "it watches")
            during = asyncio.create_task(asyncio.sleep(3600), name="during")
            os.kill(os.getpid(), signal.SIGTERM)
            await ends(heard_signal.wait(), "our own handler hears the signal")
        await asyncio.sleep(0)
        assert not before.done()
        assert not during.done()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGUSR1)
        for task in (before, during):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_it_runs_on_a_loop_of_another_thread_and_stops_at_once(served: Namespace) -> None:
    served.provider()
    kubeconfig, before = served.kubeconfig_of("memory-operator"), threading.enumerate()
    outcome: dict[str, Any] = {}

    async def work() -> None:
        async with watching(kubeconfig, [served.name]) as heard:
            await until(lambda: heard.enqueued, "a Provider is told")
            outcome["heard"] = heard.enqueued

    thread = threading.Thread(target=lambda: asyncio.run(work()), name="another")
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert outcome["heard"] == [ProviderRef(served.name, "memory-embeddings")]
    for left in [each for each in threading.enumerate() if each.name == "kopf" and each not in before]:
        left.join(WAIT_SECONDS)  # it has said that it ended, as the last thing it does
        assert not left.is_alive()
