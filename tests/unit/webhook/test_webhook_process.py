"""memory-webhook as a process: over TLS, through signals, with its certificate changing under it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from fixtures.certificates import PemPair, self_signed
from fixtures.waiting import WAIT_SECONDS, ends, eventually
from fixtures.webhook import REVIEW_PATH, WebhookProcess, provider, review, write_pair
from memory_webhook.main import listening

EDIT = review(provider(embedding={"dimensions": 1536}), provider(embedding={"dimensions": 768}))
STALE = "memory_webhook_tls_stale"


@pytest.fixture(scope="module")
def first() -> PemPair:
    return self_signed("first")


@pytest.fixture(scope="module")
def second() -> PemPair:
    return self_signed("second")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, first: PemPair) -> Iterator[WebhookProcess]:
    folder = tmp_path_factory.mktemp("webhook")
    write_pair(folder, first)
    with WebhookProcess(folder) as webhook:
        yield webhook


@pytest.fixture
def webhook(tmp_path: Path, first: PemPair) -> Iterator[WebhookProcess]:
    write_pair(tmp_path, first)
    with WebhookProcess(tmp_path, "--reload-seconds", "0.05", "--drain-seconds", "0.5") as process:
        yield process


def common_name(webhook: WebhookProcess) -> str:
    """Which certificate new handshakes are served."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", webhook.port), timeout=10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return "second" if b"second" in certificate else "first"


def test_an_edit_of_the_dimension_is_allowed_with_warnings_and_its_own_uid(shared: WebhookProcess) -> None:
    status, body = shared.post(EDIT)
    assert status == 200
    assert (body["apiVersion"], body["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert (body["response"]["uid"], body["response"]["allowed"]) == ("a-uid", True)
    assert body["response"]["warnings"][0].startswith("spec.embedding.dimensions: 1536 to 768 discards 120431 vectors")


def test_an_edit_that_costs_nothing_is_allowed_without_warnings(shared: WebhookProcess) -> None:
    _, body = shared.post(review(provider(), provider(headers={"X-Team": "a"})))
    assert body["response"] == {"uid": "a-uid", "allowed": True}


def test_a_deletion_is_allowed_without_warnings(shared: WebhookProcess) -> None:
    _, body = shared.post(review(provider(), None))
    assert body["response"] == {"uid": "a-uid", "allowed": True}


def test_an_object_that_is_being_deleted_is_not_warned_about(shared: WebhookProcess) -> None:
    leaving = provider(embedding={"dimensions": 768})
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    _, body = shared.post(review(provider(), leaving))
    assert "warnings" not in body["response"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"\xff\x00", b'{"request": 5}', b'{"request": {"uid": 7}}', b"[" * 100_000]
)
def test_garbage_is_allowed_and_counted(shared: WebhookProcess, body: bytes) -> None:
    before = shared.metric('memory_webhook_reviews_total{result="not_a_review"}')
    status, answer = shared.post(body)
    assert (status, answer["response"]) == (200, {"uid": "", "allowed": True})
    assert shared.metric('memory_webhook_reviews_total{result="not_a_review"}') == before + 1


@pytest.mark.parametrize("waste", [5, "x", [], {"spec": []}, {"metadata": 5, "spec": {"role": "embedding"}}])
def test_objects_that_make_no_sense_are_allowed_under_their_uid(shared: WebhookProcess, waste: object) -> None:
    request = {"uid": "u1", "operation": "UPDATE", "object": waste, "oldObject": waste}
    _, answer = shared.post(json.dumps({"request": request}).encode())
    assert (answer["response"]["uid"], answer["response"]["allowed"]) == ("u1", True)


def test_a_body_above_the_limit_is_allowed_unread(shared: WebhookProcess) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as plain:
        context = ssl.create_default_context(cadata=shared.certificate.read_text())
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(
                b"POST " + REVIEW_PATH.encode() + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n{"
            )
            assert b'"allowed":true' in b"".join(iter(lambda: connection.recv(4096), b""))
    assert shared.metric('memory_webhook_reviews_total{result="too_large"}') == 1


def test_other_paths_and_methods_are_refused(shared: WebhookProcess) -> None:
    connection = shared.connect()
    try:
        for method, path, status in (("POST", "/other", 404), ("GET", "/livez", 404), ("PUT", "/validate", 404)):
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.request("GET", REVIEW_PATH)
        assert connection.getresponse().status == 405
    finally:
        connection.close()


def test_probes_need_no_tls(shared: WebhookProcess) -> None:
    assert shared.probe("/livez") == (200, "ok\n")
    assert shared.probe("/readyz") == (200, "ok\n")
    assert shared.probe("/other")[0] == 404
    status, text = shared.probe("/metrics")
    assert status == 200
    for name in ("memory_webhook_reviews_total", "memory_webhook_review_seconds_bucket", STALE):
        assert name in text


def test_the_end_of_the_certificate_is_told(shared: WebhookProcess) -> None:
    served = x509.load_pem_x509_certificate(shared.certificate.read_bytes())
    told = shared.metric("memory_webhook_certificate_expiry_timestamp_seconds")
    assert told == served.not_valid_after_utc.timestamp()


def test_a_new_pair_is_served_without_a_restart(webhook: WebhookProcess, second: PemPair) -> None:
    write_pair(webhook.folder, second)
    eventually(lambda: common_name(webhook) == "second", "the second pair is served")
    assert webhook.post(EDIT)[0] == 200
    assert webhook.metric(STALE) == 0


def test_a_connection_from_before_the_new_pair_goes_on(webhook: WebhookProcess, second: PemPair) -> None:
    connection = webhook.connect()
    try:
        for _ in range(2):
            connection.request("POST", REVIEW_PATH, EDIT)
            assert connection.getresponse().read()
            write_pair(webhook.folder, second)
            eventually(lambda: common_name(webhook) == "second", "the second pair is served")
    finally:
        connection.close()


def test_a_swapped_link_as_kubernetes_makes_it_is_noticed(tmp_path: Path, first: PemPair, second: PemPair) -> None:
    for name, pair in (("..1", first), ("..2", second)):
        (tmp_path / name).mkdir()
        write_pair(tmp_path / name, pair)
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    with WebhookProcess(tmp_path, "--reload-seconds", "0.05") as webhook:
        assert common_name(webhook) == "first"
        (tmp_path / "..new").symlink_to("..2")
        os.rename(tmp_path / "..new", tmp_path / "..data")
        eventually(lambda: common_name(webhook) == "second", "the second pair is served")


def test_a_mismatched_pair_keeps_the_old_one_and_says_so(
    webhook: WebhookProcess, first: PemPair, second: PemPair
) -> None:
    write_pair(webhook.folder, PemPair(second.certificate, first.key))
    eventually(lambda: webhook.metric(STALE) == 1, "the pair is told as stale")
    webhook.wait_for_log("ERROR .*the key is not that of the certificate")
    assert common_name(webhook) == "first"
    assert webhook.post(EDIT, trusted=first.certificate)[0] == 200
    write_pair(webhook.folder, second)
    eventually(lambda: webhook.metric(STALE) == 0, "the pair is told as good again")
    assert common_name(webhook) == "second"


@pytest.mark.parametrize("waste", [b"", b"no pem", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_files_that_are_no_pair_keep_the_old_one(webhook: WebhookProcess, first: PemPair, waste: bytes) -> None:
    webhook.certificate.write_bytes(waste)
    eventually(lambda: webhook.metric(STALE) == 1, "the pair is told as stale")
    assert webhook.post(EDIT, trusted=first.certificate)[0] == 200


def test_files_that_vanish_keep_the_old_pair(webhook: WebhookProcess, first: PemPair) -> None:
    webhook.key.unlink()
    eventually(lambda: webhook.metric(STALE) == 1, "the pair is told as stale")
    assert webhook.post(EDIT, trusted=first.certificate)[0] == 200
    write_pair(webhook.folder, first)
    eventually(lambda: webhook.metric(STALE) == 0, "the pair is told as good again")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_0_although_a_client_stays_connected(
    webhook: WebhookProcess, number: signal.Signals
) -> None:
    idle = webhook.connect()
    try:
        idle.request("POST", REVIEW_PATH, EDIT)
        assert idle.getresponse().read()
        webhook.process.send_signal(number)
        assert webhook.process.wait(WAIT_SECONDS) == 0
    finally:
        idle.close()
    assert "Traceback" not in webhook.log.read_text()


def test_while_it_drains_it_is_not_ready_and_still_answers(tmp_path: Path, first: PemPair) -> None:
    write_pair(tmp_path, first)
    with WebhookProcess(tmp_path, "--drain-seconds", "3") as webhook:
        webhook.process.terminate()
        eventually(lambda: webhook.probe("/readyz") == (503, "stopping\n"), "the process says that it is stopping")
        assert webhook.probe("/livez")[0] == 200
        assert webhook.post(EDIT)[0] == 200
        assert webhook.process.wait(WAIT_SECONDS) == 0


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memory_webhook", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        env={**os.environ, **(environment or {})},
        check=False,
    )


def test_a_missing_option_is_a_usage_error() -> None:
    done = run()
    assert done.returncode == 2
    assert "--tls-cert" in done.stderr


@pytest.mark.parametrize(("name", "value"), [("PORT", "99999"), ("LOG_FORMAT", "xml"), ("RELOAD_SECONDS", "0")])
def test_the_environment_is_checked_like_flags(name: str, value: str) -> None:
    files = {"MEMORY_WEBHOOK_TLS_CERT": "/x", "MEMORY_WEBHOOK_TLS_KEY": "/y"}
    done = run(environment={**files, f"MEMORY_WEBHOOK_{name}": value})
    assert done.returncode == 2
    assert value in done.stderr


def test_it_does_not_start_without_a_pair_that_works(tmp_path: Path, first: PemPair, second: PemPair) -> None:
    arguments = ("--tls-cert", str(tmp_path / "tls.crt"), "--tls-key", str(tmp_path / "tls.key"))
    done = run(*arguments)
    assert done.returncode == 1
    assert f"cannot read {tmp_path / 'tls.crt'}" in done.stderr
    write_pair(tmp_path, PemPair(first.certificate, second.key))
    done = run(*arguments)
    assert done.returncode == 1
    assert "the key is not that of the certificate" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_names_a_port_that_is_taken(tmp_path: Path, first: PemPair) -> None:
    write_pair(tmp_path, first)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        files = ("--tls-cert", str(tmp_path / "tls.crt"), "--tls-key", str(tmp_path / "tls.key"))
        done = run("--host", "127.0.0.1", "--port", port, *files)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_logs_are_json_where_asked_for(tmp_path: Path, first: PemPair) -> None:
    write_pair(tmp_path, first)
    with WebhookProcess(tmp_path, "--log-format", "json") as webhook:
        webhook.process.terminate()
        webhook.process.wait(WAIT_SECONDS)
    for line in webhook.log.read_text().splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))


async def test_an_answer_on_a_connection_used_again_does_not_wait_for_an_acknowledgement() -> None:
    delays: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        delays.set_result(not connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listening("127.0.0.1", 0) as listener:
        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await ends(delays, "the server has the connection") is False
            writer.close()
