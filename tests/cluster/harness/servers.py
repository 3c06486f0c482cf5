"""etcd and kube-apiserver on free loopback ports: from their start over their faults to their stop."""

from __future__ import annotations

import random
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.harness.api import ApiAddress, Reply
from cluster.harness.errors import ControlPlaneError
from cluster.harness.kubeconfig import write_kubeconfig
from cluster.harness.process import GO_SETTINGS, GuardedProcess
from cluster.harness.programs import Programs

READY_SECONDS = 90.0
"""How long the API server may take from its start to /readyz; about 4 s on an idle machine."""
POLL_SECONDS = 0.05
_PORT_TRIES = 3


class Servers:
    """The two programs, their identities and their port, which stay the same over restarts."""

    def __init__(self, programs: Programs, folder: Path, environment: Mapping[str, str]) -> None:
        """Nothing is started; `folder` (empty, private) gets data, logs, certificates and kubeconfigs."""
        self.folder = folder
        self.programs = programs
        kept = {key: value for key, value in environment.items() if not key.startswith("KUBE")}
        self.environment = kept | GO_SETTINGS
        self.address = ApiAddress(0, folder / "certificates" / "apiserver.crt")
        self.admin_kubeconfig = folder / "admin.kubeconfig"
        self._admin_token = secrets.token_urlsafe(32)
        self._etcd: GuardedProcess | None = None
        self._etcd_port = 0
        self._api: GuardedProcess | None = None
        self._write_identities()

    @property
    def url(self) -> str:
        """Base URL of the API server, https on 127.0.0.1; the same for as long as this object lives."""
        return self.address.url

    @property
    def log(self) -> Path:
        """What kube-apiserver says, over all its restarts."""
        return self.folder / "kube-apiserver.log"

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
    ) -> Reply:
        """One request in JSON, as the administrator unless `token` is given; any HTTP status is an answer.

        Raises OSError when nobody answers.
        """
        return self.address.request(method, path, body, token=token or self._admin_token, content_type=content_type)

    def start(self) -> None:
        """Start both servers; returns when the API server is ready. Raises ControlPlaneError."""
        for attempt in range(1, _PORT_TRIES + 1):
            self._etcd_port, peer, port = _free_ports(3)
            self.address = ApiAddress(port, self.address.certificate)
            try:
                self._start_etcd(peer)
                self._start_api()
                self._wait_ready()
            except ControlPlaneError as error:
                self.stop()
                if attempt == _PORT_TRIES or "address already in use" not in str(error):
                    raise
                continue
            break
        write_kubeconfig(self.admin_kubeconfig, self.address, self._admin_token)

    def stop(self) -> None:
        """Stop both servers and delete their data; logs stay. A second call does nothing."""
        self.stop_api_server()
        if self._etcd is not None:
            self._etcd.stop()
            self._etcd = None
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def _write_identities(self) -> None:
        for name in ("certificates", "kubeconfigs", "kubectl-cache"):
            (self.folder / name).mkdir(mode=0o700)
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{self._admin_token},admin,admin,"system:masters"\n')
        key = self.folder / "service-accounts.key"
        key.touch(mode=0o600)
        key.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )

    def _start_etcd(self, peer_port: int) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{peer_port}"
        command = [
            str(self.programs.etcd),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        self._etcd = GuardedProcess("etcd", command, self.folder / "etcd.log", self.environment)

    def _start_api(self) -> None:
        key = self.folder / "service-accounts.key"
        command = [
            str(self.programs.kube_apiserver),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.address.port}",
            f"--cert-dir={self.address.certificate.parent}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            # Else it looks for a default route, and does not start on a machine without a network.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
        ]
        self._api = GuardedProcess("kube-apiserver", command, self.log, self.environment)

    def _running_api(self) -> GuardedProcess:
        if self._api is None:
            raise ControlPlaneError("kube-apiserver is not started")
        return self._api

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        said = "nothing"
        while time.monotonic() < deadline:
            for process in (self._etcd, self._api):
                if process is not None and not process.running:
                    raise ControlPlaneError(f"{process.name} has ended. Its last lines:\n{process.last_lines()}")
            try:
                reply = self.request("GET", "/readyz?verbose")
            except OSError as error:  # not listening yet, no certificate yet
                said = str(error)
            else:
                if reply.ok:
                    return
                said = str(reply.body.get("text", reply.body))
            time.sleep(POLL_SECONDS)
        last = self._running_api().last_lines()
        raise ControlPlaneError(f"no API server after {READY_SECONDS:.0f} s; it answers {said}. Its log:\n{last}")

    def stop_api_server(self) -> None:
        """Stop kube-apiserver alone. Nothing to do when it is stopped already."""
        if self._api is not None:
            self._api.stop()
            self._api = None

    def start_api_server(self) -> None:
        """Start kube-apiserver again, on its port; returns when it is ready. Nothing to do when it runs."""
        if self._api is None or not self._api.running:
            self.stop_api_server()
            self._start_api()
        self._wait_ready()

    def restart(self) -> None:
        """Stop kube-apiserver alone and start it on the same port; etcd, tokens and certificates stay."""
        with self.down():
            pass

    @contextmanager
    def down(self) -> Iterator[None]:
        """Without kube-apiserver inside the block: connections are refused. Ready again after it."""
        self.stop_api_server()
        try:
            yield
        finally:
            self.start_api_server()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """With a frozen kube-apiserver inside the block: connections are accepted, nothing is answered."""
        api = self._running_api()
        api.send(signal.SIGSTOP)
        try:
            yield
        finally:
            api.send(signal.SIGCONT)
            self._wait_ready()

    def kill(self) -> None:
        """Kill kube-apiserver as the kernel would, and start it again on the same port."""
        self._running_api().send(signal.SIGKILL)
        self.restart()


def _free_ports(count: int) -> list[int]:
    """Ports below those that the kernel gives to outgoing connections: one of them could take ours in a restart."""
    found: dict[int, socket.socket] = {}
    try:
        while len(found) < count:
            port = random.randrange(20000, 30000)
            listener = socket.socket()
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:  # taken
                listener.close()
            else:
                found[port] = listener
    finally:
        for listener in found.values():
            listener.close()
    return list(found)
