"""A release of our chart on a node, and what people do with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cluster.harness import ControlPlaneError
from e2e.images.recipes import version
from e2e.node.node import HttpAnswer, Node

CHART = Path(__file__).resolve().parents[2] / "helm" / "memory-operator"
NAME = "memory"
NAMESPACE = "memory"
SERVED = "agents"
PROVIDER = "memory-embeddings"
VENDOR_URL = "http://vendor.vendor.svc:8090"
READY_SECONDS = 240.0
POLL_SECONDS = 0.2
CONSENT = "/admin/embedding-dimension-change"

MANIFEST: dict[str, Any] = {
    "apiVersion": "omnia.altairalabs.ai/v1alpha1",
    "kind": "Provider",
    "metadata": {"name": PROVIDER, "namespace": SERVED},
    "spec": {
        "role": "embedding",
        "type": "ollama",
        "model": "nomic-embed-text",
        "baseURL": VENDOR_URL,
        "embedding": {"dimensions": 768},
    },
}
VALUES: dict[str, Any] = {
    # Secrets reach the pods of the node of the tests within seconds.
    "postgresql": {"embedded": True, "extraEnv": [{"name": "POSTGRES_PASSWORD_DELAY", "value": "15"}]},
    "providers": {"namespaces": [SERVED]},
    "rbac": {
        "bindings": [
            {
                "role": role,
                "namespace": SERVED,
                "subjects": [{"kind": "ServiceAccount", "name": who, "namespace": SERVED}],
            }
            for role, who in (("memories", "agent"), ("memories", "owner"), ("consent", "owner"), ("operate", "owner"))
        ]
    },
}
"""What an installation for trying it out sets."""

T = TypeVar("T")


class Release:
    """The release `memory` in the namespace `memory`, which serves the namespace `agents`."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._tokens: dict[str, str] = {}
        self._values: dict[str, Any] = VALUES

    def prepare(self) -> None:
        """Make what is there before the chart: namespaces, the vendor, accounts."""
        manifests = Path(__file__).with_name("install.yaml").read_text()
        self.node.kubectl(
            "apply", "-f", "-", input=manifests.replace("VENDOR_IMAGE", f"memory-vendor-stub:{version()}")
        )
        self.node.kubectl("-n", "vendor", "rollout", "status", "deploy/vendor", "--timeout=120s")

    def install(self) -> str:
        """`helm install --wait`; what it says."""
        return self._helm("install", NAME, str(CHART), "--wait", f"--timeout={READY_SECONDS:.0f}s")

    def upgrade(self, changes: Mapping[str, Any] | None = None, *, wait: bool = True) -> str:
        """`helm upgrade` with the values of the installation and these."""
        waiting = ["--wait", f"--timeout={READY_SECONDS:.0f}s"] if wait else []
        return self._helm("upgrade", NAME, str(CHART), *waiting, values=_merged(self._values, changes or {}))

    def rendered(self) -> str:
        """The manifests of an upgrade that changes nothing, as GitOps tools with a view of the cluster make them."""
        options = ("--dry-run=server", "--is-upgrade", "--no-hooks")
        return self._helm("template", NAME, str(CHART), *options)

    def rollback(self) -> str:
        """`helm rollback` to the revision before."""
        return self.node.helm(
            "rollback", NAME, "-n", NAMESPACE, "--wait", f"--timeout={READY_SECONDS:.0f}s", seconds=READY_SECONDS + 30
        ).stdout

    def uninstall(self) -> str:
        """`helm uninstall --wait`."""
        return self.node.helm("uninstall", NAME, "-n", NAMESPACE, "--wait", f"--timeout={READY_SECONDS:.0f}s").stdout

    def _helm(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        path = self.node.layout.folder / "values.yaml"
        path.write_text(yaml.safe_dump(dict(values or self._values)))
        done = self.node.helm(*arguments, "-n", NAMESPACE, "-f", str(path), check=False, seconds=READY_SECONDS + 30)
        if done.returncode != 0:
            raise ControlPlaneError(f"helm {arguments[0]}: {done.stderr.strip()[-2000:]}\n{self._state()}")
        return done.stdout

    def apply(self, manifest: Mapping[str, Any] = MANIFEST) -> str:
        """`kubectl apply` of a Provider; its warnings."""
        return self.node.kubectl("apply", "-f", "-", input=json.dumps(manifest)).stderr

    def declare(self) -> None:
        """Have the Provider, at whatever dimension it is by now, and wait until it is Ready."""
        if self.node.kubectl("-n", SERVED, "get", "provider", PROVIDER, check=False).returncode != 0:
            self.apply()
        self.poll(lambda: self.phase() == "Ready", "phase Ready")

    def edit(self, **embedding: Any) -> str:
        """`kubectl patch` of the Provider's embedding; its warnings."""
        return self.patch({"embedding": embedding})

    def patch(self, spec: Mapping[str, Any]) -> str:
        """`kubectl patch` of the Provider's spec; its warnings."""
        patch = json.dumps({"spec": spec})
        return self.node.kubectl("-n", SERVED, "patch", "provider", PROVIDER, "--type=merge", "-p", patch).stderr

    def provider(self) -> dict[str, Any]:
        """The Provider as it is."""
        found: dict[str, Any] = self.node.get("provider", PROVIDER, "-n", SERVED)
        return found

    def listed(self) -> list[str]:
        """The Provider's line of `kubectl get providers`, in words."""
        return self.node.kubectl("-n", SERVED, "get", "providers").stdout.splitlines()[1].split()

    def phase(self) -> str:
        """The Provider's."""
        return str(self.provider().get("status", {}).get("phase", ""))

    def condition(self, kind: str, reason: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for a condition with that reason. Raises ControlPlaneError."""

        def there() -> dict[str, Any] | None:
            conditions = self.provider().get("status", {}).get("conditions", [])
            return next((each for each in conditions if (each["type"], each["reason"]) == (kind, reason)), None)

        return self.poll(there, f"{kind} with {reason}", seconds)

    def settled(self, dimensions: int, model: str | None = None, seconds: float = 120.0) -> None:
        """Wait for an active, full space of that dimension. Raises ControlPlaneError."""

        def there() -> bool:
            spaces = self.call("GET", "/v1/embeddings/spaces", account="owner").json()["spaces"]
            return any(
                space["dimensions"] == dimensions
                and space["active"]
                and space["state"] == "ready"
                and space["coverage"] == 1
                and (model is None or space["model"] == model)
                for space in spaces
            )

        self.poll(there, f"an active, full space of {dimensions} dimensions", seconds)

    def token(self, account: str) -> str:
        """A token of a ServiceAccount in the served namespace, as `kubectl create token` gives it."""
        if account not in self._tokens:
            self._tokens[account] = self.node.kubectl("-n", SERVED, "create", "token", account).stdout.strip()
        return self._tokens[account]

    def address(self) -> str:
        """IP:PORT of the API's Service."""
        return self.node.service(NAMESPACE, f"{NAME}-api")

    def call(self, method: str, path: str, body: Any = None, *, account: str | None = "agent") -> HttpAnswer:
        """One request to the API's Service, tried again for a while where nobody answers or a 503 does."""
        headers = {} if account is None else {"Authorization": f"Bearer {self.token(account)}"}
        address = self.address()

        def answered() -> HttpAnswer | None:
            try:
                answer = self.node.request(method, address, path, body, headers=headers)
            except OSError:
                return None
            return None if answer.status == 503 else answer

        return self.poll(answered, f"an answer to {method} {path}", 60.0)

    def add(self, text: str) -> str:
        """Store a memory; its id."""
        answer = self.call("POST", "/memory/add", {"text": text})
        assert answer.status == 201, answer.body
        return str(answer.json()["id"])

    def psql(self, sql: str, role: str = "memory") -> str:
        """Run SQL in the database's pod, as an administrator at three in the morning would."""
        pod = f"{NAME}-postgresql-0"
        command = ("psql", "-U", role, "-XAtc", sql)
        return self.node.kubectl("-n", NAMESPACE, "exec", pod, "--", *command).stdout.strip()

    def pods(self, component: str, *, going: bool = False) -> list[str]:
        """Names of the pods of a component; with those that are told to end, if `going`."""
        selector = f"app.kubernetes.io/component={component}"
        pods = [pod["metadata"] for pod in self.node.get("pods", "-n", NAMESPACE, "-l", selector)["items"]]
        return [pod["name"] for pod in pods if going or "deletionTimestamp" not in pod]

    def delete_pod(self, component: str, grace_seconds: int | None = None) -> None:
        """`kubectl delete pod` of one pod of a component, until it is gone."""
        grace = [] if grace_seconds is None else [f"--grace-period={grace_seconds}"]
        self.node.kubectl("-n", NAMESPACE, "delete", "pod", self.pods(component)[0], "--timeout=120s", *grace)

    def all_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until every workload of the release has its pods. Raises ControlPlaneError."""
        for workload in self.node.kubectl("-n", NAMESPACE, "get", "deploy,statefulset", "-o", "name").stdout.split():
            self.node.kubectl("-n", NAMESPACE, "rollout", "status", workload, f"--timeout={seconds:.0f}s")

    def vendor(self, **script: Any) -> dict[str, Any]:
        """Steer the vendor's stub; what it has seen."""
        answer = self.node.request("POST", self.node.service("vendor", "vendor"), "/_stub/script", script)
        seen: dict[str, Any] = answer.json()
        return seen

    def poll(self, true: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
        """Poll until there is something true; that. Raises ControlPlaneError with the state of the pods."""
        deadline = time.monotonic() + seconds
        while True:
            if found := true():
                return found
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"not within {seconds:.0f} s: {what}\n{self._state()}")
            time.sleep(POLL_SECONDS)

    def _state(self) -> str:
        pods = self.node.kubectl("-n", NAMESPACE, "get", "pods", check=False).stdout
        logs = [
            self.node.kubectl(
                "-n", NAMESPACE, "logs", f"deploy/{NAME}-{name}", "--all-containers", "--tail=8", check=False
            ).stdout
            for name in ("operator", "worker", "api")
        ]
        provider = self.node.kubectl("-n", SERVED, "get", "provider", PROVIDER, "-o", "yaml", check=False).stdout
        return "\n".join([pods, provider, *logs])


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
