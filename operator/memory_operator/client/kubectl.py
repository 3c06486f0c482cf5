"""`kubectl memory …`: the same commands, at the release in the cluster of a kubeconfig, as its user.

kubectl finds this program by its name, kubectl-memory. It asks kubectl for the Service and has it forward a port, so
that nothing else has to reach the cluster; the user's token goes to the memory API, which has it reviewed.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.main import app
from memory_operator.client.terminal.console import Screen

KUBECTL_SECONDS = 30.0
_PROGRAM = "kubectl memory"
_LABELS = "app.kubernetes.io/part-of=memory-operator,app.kubernetes.io/component=api"
_WHERE = {"-n": "namespace", "--namespace": "namespace", "--context": "context", "--kubeconfig": "kubeconfig"}
_WITH_VALUE = ("--server", "--token-file")
_NO_TOKEN = "kubectl create token NAME > FILE makes one of a ServiceAccount; name the file with --token-file"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was said of the cluster; None: as kubectl has it by itself."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None

    def words(self) -> list[str]:
        """The options that lead kubectl there, but for the namespace."""
        given = (("--context", self.context), ("--kubeconfig", self.kubeconfig))
        return [word for option, value in given if value is not None for word in (option, value)]


def split(words: Sequence[str]) -> tuple[Cluster, list[str]]:
    """What is said of the cluster before the command's name, and all other words. Raises MisuseError.

    After it -n is the command's own.
    """
    given: dict[str, str] = {}
    rest, left = [], list(words)
    while left and left[0].startswith("-"):
        option, joined, value = left[0].partition("=")
        if option not in _WHERE:
            many = 2 if option in _WITH_VALUE and not joined else 1
            rest += left[:many]
            del left[:many]
            continue
        if not joined and len(left) < 2:
            raise MisuseError(f"{option} needs a value")
        given[_WHERE[option]] = value if joined else left[1]
        del left[: 1 if joined else 2]
    return Cluster(**given), [*rest, *left]


def needs_a_server(words: Sequence[str]) -> bool:
    """Whether these words call a server at all, and do not say which."""
    named = any(word.partition("=")[0] == "--server" for word in words)
    asks = any(word in ("--help", "-h", "--version", "--show-completion", "--install-completion") for word in words)
    return any(not word.startswith("-") for word in words) and not named and not asks


def _kubectl(cluster: Cluster, *words: str) -> dict[str, Any]:
    """What kubectl answers, as JSON. Raises CommandError with its own words."""
    command = ["kubectl", *words, *cluster.words(), "-o", "json"]
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise CommandError("kubectl was not found", "install it, or name a server: memory --server URL") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"kubectl gave no answer within {KUBECTL_SECONDS:g} s", "is the cluster there?") from error
    if done.returncode:
        raise CommandError(f"kubectl: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'it failed'}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def service_of(cluster: Cluster) -> tuple[str, str, int]:
    """Namespace, name and port of the memory API's Service. Raises CommandError where there is not one.

    Only in the namespace that was named, or that the kubeconfig has: whoever may make a Service in another one could
    have tokens sent there.
    """
    where = ["-n", cluster.namespace] if cluster.namespace else []
    found = _kubectl(cluster, "get", "services", "-l", _LABELS, *where)["items"]
    if not found:
        raise CommandError("there is no memory API in this namespace", _elsewhere(cluster))
    if len(found) > 1:
        names = ", ".join(each["metadata"]["name"] for each in found)
        hint = "forward a port by kubectl port-forward, and give it with --server"
        raise MisuseError(f"there are several memory APIs in this namespace: {names}", hint)
    (service,) = found
    port = int(service["spec"]["ports"][0]["port"])
    return str(service["metadata"]["namespace"]), str(service["metadata"]["name"]), port


def _elsewhere(cluster: Cluster) -> str:
    """Where there is a memory API, as a hint."""
    try:
        found = _kubectl(cluster, "get", "services", "-l", _LABELS, "--all-namespaces")["items"]
    except CommandError:
        found = []
    places = sorted({str(each["metadata"]["namespace"]) for each in found})
    if not places:
        return "helm list -A shows where it is installed: kubectl memory -n NAMESPACE …"
    return f"there is one in {', '.join(places)}: kubectl memory -n {places[0]} …"


def token_of(cluster: Cluster) -> str:
    """The token of the kubeconfig's user, from an exec plugin where that is what it has. Raises CommandError."""
    config = _kubectl(cluster, "config", "view", "--raw", "--minify")
    user = (config.get("users") or [{}])[0].get("user") or {}
    if user.get("token"):
        return str(user["token"])
    if user.get("tokenFile"):
        return Path(user["tokenFile"]).read_text(encoding="utf-8").strip()
    if user.get("exec"):
        return _from_plugin(user["exec"])
    raise CommandError(
        "the kubeconfig's user has no token, and the memory API knows nobody by a certificate", _NO_TOKEN
    )


def _from_plugin(plugin: Mapping[str, Any]) -> str:
    """What a credential plugin gives, called as kubectl calls it. Nothing of its output is shown."""
    version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    own = {each["name"]: each["value"] for each in plugin.get("env") or ()}
    environment = {**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    command = [str(plugin["command"]), *(str(each) for each in plugin.get("args") or ())]
    try:
        done = subprocess.run(  # noqa: S603 - what the user's own kubeconfig names, as kubectl does
            command, env=environment, stdout=subprocess.PIPE, text=True, timeout=KUBECTL_SECONDS, check=False
        )
        token = str(json.loads(done.stdout)["status"]["token"])
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"the credential plugin {command[0]} gave no token", _NO_TOKEN) from error
    return token


@contextmanager
def forwarded(cluster: Cluster, namespace: str, name: str, port: int) -> Iterator[str]:
    """Address of a port of this machine that leads to a Service. Raises CommandError."""
    words = ["-n", namespace, f"service/{name}", f":{port}", "--address", "127.0.0.1"]
    command = ["kubectl", "port-forward", *words, *cluster.words()]
    with subprocess.Popen(  # noqa: S603 - no shell
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{_port_of(process)}"
        finally:
            process.terminate()


def _port_of(process: subprocess.Popen[str]) -> int:
    """The port that kubectl chose. What it says later is read too, lest it waits for a reader."""
    said: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    lines = process.stdout

    def read() -> None:
        for line in lines:
            said.put(line)
        said.put("")

    threading.Thread(target=read, name="port-forward", daemon=True).start()
    try:
        line = said.get(timeout=KUBECTL_SECONDS)
    except queue.Empty:
        line = ""
    found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
    if found is None:
        hint = "try kubectl port-forward to it; it needs create on pods/portforward"
        raise CommandError("kubectl forwards no port to the memory API", hint)
    return int(found[1])


def main() -> None:
    """Run one command and exit with its code."""
    try:
        cluster, words = split(sys.argv[1:])
        if not needs_a_server(words):
            app(words, prog_name=_PROGRAM)
            return
        namespace, name, port = service_of(cluster)
        if not os.environ.get("MEMORY_TOKEN") and "--token-file" not in words:
            os.environ["MEMORY_TOKEN"] = token_of(cluster)
        with forwarded(cluster, namespace, name, port) as address:
            os.environ["MEMORY_API"] = address
            app(words, prog_name=_PROGRAM)
    except CommandError as failure:
        Screen(as_json="--json" in sys.argv).failure(failure)
        sys.exit(int(failure.exit_code))
