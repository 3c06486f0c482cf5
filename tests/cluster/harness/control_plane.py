"""An API server that runs, and what a test does with it."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster.harness.api import Reply
from cluster.harness.errors import ControlPlaneError
from cluster.harness.kubeconfig import write_kubeconfig
from cluster.harness.programs import Programs
from cluster.harness.servers import POLL_SECONDS, Servers

SETTLE_SECONDS = 120.0
"""How long the API server may take to act on what was written: a CRD, a permission."""
GONE_SECONDS = 180.0
"""How long a CRD and its objects may take to go."""
KUBECTL_SECONDS = 240.0
_LOOKS_PER_EDIT = 20
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_HERE = Path(__file__).resolve().parents[1]


class ControlPlane(Servers):
    """A running API server with etcd behind it, and nothing else: no controllers, no scheduler, no nodes.

    So nothing makes a `default` ServiceAccount, nothing collects garbage, and Services lead nowhere; reviews, RBAC,
    CRDs with CEL, admission webhooks (by URL), server-side apply, watches and Events are real.
    """

    def __init__(self, programs: Programs, folder: Path, environment: Mapping[str, str]) -> None:
        """Nothing is started; `folder` (empty, private) gets data, logs, certificates and kubeconfigs."""
        super().__init__(programs, folder, environment)
        self._installed: dict[str, tuple[str, str, int]] = {}

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002  (as subprocess.run calls it)
        check: bool = True,
        kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, as the administrator unless `kubeconfig` says otherwise.

        Raises ControlPlaneError with its stderr when it fails and `check` is true.
        """
        done = subprocess.run(
            [self.programs.kubectl, *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env=self.environment
            | {
                "KUBECONFIG": str(kubeconfig or self.admin_kubeconfig),
                "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
            },
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            raise ControlPlaneError(f"kubectl {' '.join(arguments)} exits {done.returncode}: {done.stderr.strip()}")
        return done

    def kubeconfig(self, token: str, namespace: str = "default") -> Path:
        """A new kubeconfig file (mode 0600) for a token."""
        path = self.folder / "kubeconfigs" / f"{secrets.token_hex(6)}.yaml"
        return write_kubeconfig(path, self.address, token, namespace)

    def service_account_token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A token of an existing ServiceAccount, by TokenRequest; `seconds` ≥ 600. Raises ControlPlaneError."""
        reply = self.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}},
        )
        return str(_ok(reply, f"a token of {namespace}/{name}")["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig file of an existing ServiceAccount, with its own namespace as the current one."""
        return self.kubeconfig(self.service_account_token(namespace, name), namespace)

    def apply_rbac(self, namespace: str, *, everywhere: bool = False, foreign: bool = False) -> None:
        """Apply rbac.yaml for a served namespace, and wait until the API server acts on it.

        `everywhere` and `foreign` add rbac-everywhere.yaml and rbac-foreign.yaml. The ServiceAccounts are
        memory-operator, memory-api and memory-worker.
        """
        files = ["rbac.yaml"] + ["rbac-everywhere.yaml"] * everywhere + ["rbac-foreign.yaml"] * foreign
        text = "\n---\n".join((_HERE / file).read_text() for file in files).replace("SERVED", namespace)
        self.kubectl("apply", "-f", "-", input=text)
        for subject, attributes in _granted([each for each in yaml.safe_load_all(text) if each]):
            self.wait_until_allowed(subject, attributes)

    def wait_until_allowed(self, user: str, attributes: Mapping[str, str]) -> None:
        """Wait until RBAC lets `user` do that (the resourceAttributes of a SubjectAccessReview).

        A binding takes a moment from its write to its effect. Raises ControlPlaneError.
        """
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": dict(attributes)},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        _until(
            lambda: _ok(self.request("POST", path, review), "a review")["status"]["allowed"] is True,
            f"{user} may do {dict(attributes)}",
        )

    def install_crd(self, manifest: str) -> None:
        """Install a CRD, or replace the one of that name, and wait until its schema is served and published.

        Objects stay when a CRD replaces another. The same one again costs one request. What is waited for is the
        fields: a change of rules alone takes effect a moment later.
        """
        crd = yaml.safe_load(manifest)
        name, group, version = crd["metadata"]["name"], crd["spec"]["group"], crd["spec"]["versions"][0]
        path = f"{_CRDS}/{name}"
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        present = self.request("GET", path)
        if present.ok and self._installed.get(name) == (digest, *_edition(present.body)):
            return
        applied = self.request(
            "PATCH",
            f"{path}?fieldManager=tests&force=true",
            crd,
            content_type="application/apply-patch+yaml",
        )
        edition = _edition(_ok(applied, f"the CRD {name}"))
        served = f"/apis/{group}/{version['name']}"
        _until(lambda: self.request("GET", f"{served}/{crd['spec']['names']['plural']}").ok, f"{name} is served")
        fields = _fields(version["schema"]["openAPIV3Schema"])
        kind = crd["spec"]["names"]["kind"]
        _until(lambda: self._published_fields(served, kind) == fields, f"the schema of {name} is published")
        self._installed[name] = (digest, *edition)

    def remove_crd(self, name: str) -> None:
        """Delete a CRD with its objects, and wait until it is gone. Nothing to do where there is none.

        The API server's finalizer may forget a CRD. It lists the objects, is refused ("storage is (re)initializing"),
        writes that into the status and tries again in 5 ms. When it does not see its own write yet, that try conflicts;
        then it relies on an event, and ignores those of its own condition. Any other edit makes it look again; else it
        does so every five minutes.
        """
        path = f"{_CRDS}/{name}"
        looks = itertools.count(1)

        def gone() -> bool:
            look = next(looks)
            if look % _LOOKS_PER_EDIT == 0:
                edit = {"metadata": {"annotations": {"tests/looks": str(look)}}}
                self.request("PATCH", path, edit, content_type="application/merge-patch+json")
            return self.request("GET", path).status == 404

        self.request("DELETE", path)
        _until(gone, f"{name} is gone", GONE_SECONDS)

    def create_namespace(self, name: str) -> None:
        """Make a namespace. Raises ControlPlaneError when there is one."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        _ok(self.request("POST", "/api/v1/namespaces", manifest), f"namespace {name}")

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it, as the namespace controller would.

        Raises ControlPlaneError naming what is still there after its deletion: something has a finalizer.
        """
        emptied = [path for path in self._collections(name) if self._empty(path)]
        for path in emptied:
            left = [item["metadata"]["name"] for item in self.request("GET", path).body.get("items", [])]
            if left:
                raise ControlPlaneError(f"deleted, and still there, in {path}: {', '.join(left)}")
        self.request("DELETE", f"/api/v1/namespaces/{name}")
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}}
        _ok(self.request("PUT", f"/api/v1/namespaces/{name}/finalize", manifest), f"end of namespace {name}")

    def _published_fields(self, served: str, kind: str) -> set[str]:
        schemas = self.request("GET", f"/openapi/v3{served}").body.get("components", {}).get("schemas", {})
        for schema in schemas.values():
            if any(each["kind"] == kind for each in schema.get("x-kubernetes-group-version-kind", [])):
                return _fields(schema)
        return set()

    def _collections(self, namespace: str) -> list[str]:
        """The path of each resource of which a namespace may hold objects."""
        paths = []
        for root in ("/api", "/apis"):
            reply = self.address.request(
                "GET",
                root,
                token=self._admin_token,
                accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            )
            for group in _ok(reply, "discovery")["items"]:
                version = group["versions"][0]
                name = group["metadata"].get("name")
                base = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
                paths += [
                    f"{base}/namespaces/{namespace}/{resource['resource']}"
                    for resource in version.get("resources", [])
                    if resource["scope"] == "Namespaced" and {"deletecollection", "list"} <= set(resource["verbs"])
                ]
        return paths

    def _empty(self, path: str) -> bool:
        """Delete all objects of one kind; whether there was one."""
        if not self.request("GET", f"{path}?limit=1").body.get("items"):
            return False
        _ok(self.request("DELETE", path), f"delete of {path}")
        return True


def _ok(reply: Reply, what: str) -> dict[str, Any]:
    if not reply.ok:
        raise ControlPlaneError(f"{what}: the API server answers {reply.status}: {reply.body.get('message')}")
    return reply.body


def _edition(manifest: Mapping[str, Any]) -> tuple[str, int]:
    """What changes with every edit of an object, whoever makes it."""
    return manifest["metadata"]["uid"], manifest["metadata"]["generation"]


def _fields(schema: Mapping[str, Any], prefix: str = "") -> set[str]:
    """The path of every field of spec and status."""
    found = set()
    for name, part in schema.get("properties", {}).items():
        if prefix or name in ("spec", "status"):
            found |= {f"{prefix}.{name}"} | _fields(part, f"{prefix}.{name}")
    return found


def _until(true: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise ControlPlaneError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def _granted(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    """For each binding and subject, one thing that it may do."""
    roles = {(each["kind"], each["metadata"]["name"]): each for each in manifests if "rules" in each}
    for binding in manifests:
        if "roleRef" not in binding:
            continue
        rule = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]["rules"][-1]
        resource, _, subresource = rule["resources"][0].partition("/")
        attributes = {"group": rule["apiGroups"][0], "resource": resource, "verb": rule["verbs"][0]}
        if "resourceNames" in rule:
            attributes["name"] = rule["resourceNames"][0]
        if subresource:
            attributes["subresource"] = subresource
        if "namespace" in binding["metadata"]:
            attributes["namespace"] = binding["metadata"]["namespace"]
        for subject in binding["subjects"]:
            yield f"system:serviceaccount:{subject['namespace']}:{subject['name']}", attributes
