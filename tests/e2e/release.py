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
    "metadata": {"name": PROVIDER},
    "spec": {
        "role": "embedding",
        "type": "ollama",
        "model": "nomic-embed-text",
        "baseURL": VENDOR_URL,
        "embedding": {"dimensions": 768},
    },
}

T = TypeVar("T")


class Release:
    """A release in a namespace of its own, which serves another one: `memory`, which serves `agents`, by default."""

    def __init__(self, node: Node, name: str = NAME, served: str = SERVED) -> None:
        self.node = node
        self.name = name
        self.namespace = name
        self.served = served
        self._tokens: dict[str, str] = {}
        self._values: dict[str, Any] = _values(served)

    def prepare(self) -> None:
        """Make what is there before the chart: namespaces, the vendor, accounts."""
        manifests = Path(__file__).with_name("install.yaml").read_text()
        self.node.kubectl(
            "apply",
            "-f",
            "-",
            input=manifests.replace("VENDOR_IMAGE", f"memory-vendor-stub:{version()}")
            .replace("RELEASE", self.namespace)
            .replace("SERVED", self.served),
        )
        self.node.kubectl("-n", "vendor", "rollout", "status", "deploy/vendor", "--timeout=120s")

    def install(self, changes: Mapping[str, Any] | None = None, chart: Path = CHART) -> str:
        """`helm install --wait` with the values of `_values` and these; what it says."""
        values = _merged(self._values, changes or {})
        return self._helm("install", self.name, str(chart), "--wait", f"--timeout={READY_SECONDS:.0f}s", values=values)

    def upgrade(self, changes: Mapping[str, Any] | None = None, *, wait: bool = True) -> str:
        """`helm upgrade` with the values of the installation and these."""
        waiting = ["--wait", f"--timeout={READY_SECONDS:.0f}s"] if wait else []
        return self._helm("upgrade", self.name, str(CHART), *waiting, values=_merged(self._values, changes or {}))

    def rendered(self) -> str:
        """The manifests of an upgrade that changes nothing, as GitOps tools with a view of the cluster make them."""
        options = ("--dry-run=server", "--is-upgrade", "--no-hooks")
        return self._helm("template", self.name, str(CHART), *options)

    def rollback(self) -> str:
        """`helm rollback` to the revision before."""
        return self.node.helm(
            "rollback",
            self.name,
            "-n",
            self.namespace,
            "--wait",
            f"--timeout={READY_SECONDS:.0f}s",
            seconds=READY_SECONDS + 30,
        ).stdout

    def uninstall(self) -> str:
        """`helm uninstall --wait`."""
        return self.node.helm(
            "uninstall", self.name, "-n", self.namespace, "--wait", f"--timeout={READY_SECONDS:.0f}s"
        ).stdout

    def _helm(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        path = self.node.layout.folder / "values.yaml"
        path.write_text(yaml.safe_dump(dict(values or self._values)))
        done = self.node.helm(
            *arguments, "-n", self.namespace, "-f", str(path), check=False, seconds=READY_SECONDS + 30
        )
        if done.returncode != 0:
            raise ControlPlaneError(f"helm {arguments[0]}: {done.stderr.strip()[-2000:]}\n{self._state()}")
        return done.stdout

    def apply(self, manifest: Mapping[str, Any] = MANIFEST) -> str:
        """`kubectl apply` of a Provider into the served namespace; its warnings."""
        return self.node.kubectl("apply", "-n", self.served, "-f", "-", input=json.dumps(manifest)).stderr

    def declare(self) -> None:
        """Have the Provider, at whatever dimension it is by now, and wait until it is Ready."""
        if self.node.kubectl("-n", self.served, "get", "provider", PROVIDER, check=False).returncode != 0:
            self.apply()
        self.poll(lambda: self.phase() == "Ready", "phase Ready")

    def edit(self, **embedding: Any) -> str:
        """`kubectl patch` of the Provider's embedding; its warnings."""
        return self.patch({"embedding": embedding})

    def patch(self, spec: Mapping[str, Any]) -> str:
        """`kubectl patch` of the Provider's spec; its warnings."""
        patch = json.dumps({"spec": spec})
        return self.node.kubectl("-n", self.served, "patch", "provider", PROVIDER, "--type=merge", "-p", patch).stderr

    def provider(self) -> dict[str, Any]:
        """The Provider as it is."""
        found: dict[str, Any] = self.node.get("provider", PROVIDER, "-n", self.served)
        return found

    def listed(self) -> list[str]:
        """The Provider's line of `kubectl get providers`, in words."""
        return self.node.kubectl("-n", self.served, "get", "providers").stdout.splitlines()[1].split()

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
            self._tokens[account] = self.node.kubectl("-n", self.served, "create", "token", account).stdout.strip()
        return self._tokens[account]

    def address(self) -> str:
        """IP:PORT of the API's Service."""
        return self.node.service(self.namespace, f"{self.name}-api")

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
        pod = f"{self.name}-postgresql-0"
        command = ("psql", "-U", role, "-XAtc", sql)
        return self.node.kubectl("-n", self.namespace, "exec", pod, "--", *command).stdout.strip()

    def pods(self, component: str, *, going: bool = False) -> list[str]:
        """Names of the pods of a component; with those that are told to end, if `going`."""
        selector = f"app.kubernetes.io/component={component}"
        pods = [pod["metadata"] for pod in self.node.get("pods", "-n", self.namespace, "-l", selector)["items"]]
        return [pod["name"] for pod in pods if going or "deletionTimestamp" not in pod]

    def delete_pod(self, component: str, grace_seconds: int | None = None) -> None:
        """`kubectl delete pod` of one pod of a component, until it is gone."""
        grace = [] if grace_seconds is None else [f"--grace-period={grace_seconds}"]
        self.node.kubectl("-n", self.namespace, "delete", "pod", self.pods(component)[0], "--timeout=120s", *grace)

    def all_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until every workload of the release has its pods. Raises ControlPlaneError."""
        for workload in self.node.kubectl(
            "-n", self.namespace, "get", "deploy,statefulset", "-o", "name"
        ).stdout.split():
            self.node.kubectl("-n", self.namespace, "rollout", "status", workload, f"--timeout={seconds:.0f}s")

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
        pods = self.node.kubectl("-n", self.namespace, "get", "pods", check=False).stdout
        logs = [
            self.node.kubectl(
                "-n", self.namespace, "logs", f"deploy/{self.name}-{name}", "--all-containers", "--tail=8", check=False
            ).stdout
            for name in ("operator", "worker", "api")
        ]
        provider = self.node.kubectl("-n", self.served, "get", "provider", PROVIDER, "-o", "yaml", check=False).stdout
        return "\n".join([pods, provider, *logs])


def _values(served: str) -> dict[str, Any]:
    """What an installation for trying it out sets."""
    bindings = [
        {
            "role": role,
            "namespace": served,
            "subjects": [{"kind": "ServiceAccount", "name": who, "namespace": served}],
        }
        for role, who in (("memories", "agent"), ("memories", "owner"), ("consent", "owner"), ("operate", "owner"))
    ]
    return {
        # Secrets reach the pods of the node of the tests within seconds.
        "postgresql": {"embedded": True, "extraEnv": [{"name": "POSTGRES_PASSWORD_DELAY", "value": "15"}]},
        "providers": {"namespaces": [served]},
        "rbac": {"bindings": bindings},
    }


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
