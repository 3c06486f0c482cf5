"""The chart's admission policy on a real API server: who may set the annotation that activates a Provider's space."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.chart import OFFLINE, Chart
from fixtures.engine import World
from fixtures.kube import Namespace
from fixtures.kube_operator import operating
from fixtures.waiting import eventually, until
from memory_operator.kube.admission_policy import activation_guard
from memory_operator.kube.client import open_api

PEOPLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: edit, namespace: SERVED}
rules: [{apiGroups: [omnia.altairalabs.ai], resources: [providers], verbs: [get, list, patch, update, create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: activate, namespace: SERVED}
rules: [{apiGroups: [omnia.altairalabs.ai], resources: [providers/activate], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: edit, namespace: SERVED}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: edit}
subjects: [{kind: User, name: editor}, {kind: User, name: alice}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: activate, namespace: SERVED}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: activate}
subjects: [{kind: User, name: alice}]
"""


@pytest.fixture
def guarded(served: Namespace, chart: Chart) -> Iterator[Namespace]:
    """A namespace with a Provider, an editor, alice, who may activate, and the chart's policy under another name."""
    policy, binding = policy_of(chart, f"{served.name}-activate")
    served.apply(PEOPLE, policy, binding)
    served.provider("memory")
    tries = itertools.count()
    # Each with another value: one that was set before the policy was in force may stay as it is.
    eventually(
        lambda: annotate(served, "editor", f"activate=probe-{next(tries)}").returncode != 0, "the policy is in force"
    )
    yield served
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        served.kubectl("delete", kind, f"{served.name}-activate", "--ignore-not-found")


def policy_of(chart: Chart, name: str) -> list[dict[str, Any]]:
    """The policy and its binding, as the chart has them."""
    found = [each for each in chart.render(OFFLINE) if each["kind"].startswith("ValidatingAdmissionPolicy")]
    for each in found:
        each["metadata"]["name"] = name
        if "policyName" in each["spec"]:
            each["spec"]["policyName"] = name
    return sorted(found, key=lambda each: str(each["kind"]))


def annotate(served: Namespace, user: str, *annotations: str, name: str = "memory") -> subprocess.CompletedProcess[str]:
    """`kubectl annotate` as somebody."""
    ours = [f"memory-operator/{each}" for each in annotations]
    words = ("-n", served.name, "--as", user, "annotate", "--overwrite", "provider", name, *ours)
    return served.control_plane.kubectl(*words, check=False)


def test_who_may_edit_a_provider_may_not_activate_by_that(guarded: Namespace) -> None:
    refused = annotate(guarded, "editor", "activate=now")
    assert refused.returncode != 0
    assert "needs the verb create on providers/activate" in refused.stderr
    assert annotate(guarded, "editor", "distance=l2").returncode == 0
    allowed = annotate(guarded, "alice", "activate=now")
    assert allowed.returncode == 0, allowed.stderr
    # What is there stays there when somebody else edits something else, and cannot be changed nor taken away.
    assert annotate(guarded, "editor", "distance=cosine").returncode == 0
    assert annotate(guarded, "editor", "activate=then").returncode != 0
    assert annotate(guarded, "editor", "activate-").returncode != 0


def test_nobody_names_another_user_as_the_one_who_activates(guarded: Namespace) -> None:
    assert annotate(guarded, "alice", "activate=1", "activate-by=bob").returncode != 0
    assert annotate(guarded, "alice", "activate=1", "activate-by=alice").returncode == 0
    assert annotate(guarded, "editor", "activate-by=editor").returncode != 0


def test_a_new_provider_that_has_it_needs_the_permission_too(guarded: Namespace) -> None:
    manifest = f"""
apiVersion: omnia.altairalabs.ai/v1alpha1
kind: Provider
metadata: {{name: other, namespace: {guarded.name}, annotations: {{memory-operator/activate: now}}}}
spec: {{role: embedding, type: mock, model: m}}
"""
    for user, worked in (("editor", False), ("alice", True)):
        words = ("--as", user, "create", "-f", "-")
        done = guarded.control_plane.kubectl(*words, input=manifest, check=False)
        assert (done.returncode == 0) is worked, done.stderr


async def test_the_operator_sees_whether_the_policy_is_in_force(guarded: Namespace) -> None:
    name = f"{guarded.name}-activate"
    async with open_api(guarded.kubeconfig_of("memory-operator")) as api:
        guard = activation_guard(api, name)

        async def in_force() -> bool:
            return await guard() is None

        await until(in_force, "the policy is seen")
        guarded.kubectl("patch", "validatingadmissionpolicybinding", name, "--type=merge", "-p", AUDITS)
        assert "does not deny" in str(await guard())
        guarded.kubectl("delete", "validatingadmissionpolicybinding", name)
        assert "there is no ValidatingAdmissionPolicy" in str(await guard())
        assert "no admission policy was named" in str(await activation_guard(api, "")())
        other = await activation_guard(api, "another")()
        assert "needs get on validatingadmissionpolicies" in str(other)


async def test_the_operator_follows_the_annotation_and_says_so(guarded: Namespace, world: World) -> None:
    def embedding(name: str) -> dict[str, Any]:
        found: dict[str, Any] = guarded.get("provider", name).get("status", {}).get("embedding", {})
        return found

    async with operating(world, guarded):
        await until(lambda: embedding("memory").get("active"), "the first Provider is active")
        guarded.provider("other", model="another")
        await until(lambda: embedding("other").get("embeddingVersion"), "the second has its space")
        told = embedding("other")
        assert (told["active"], told.get("activate")) == (False, None)
        assert annotate(guarded, "alice", "activate=now", "activate-by=alice", name="other").returncode == 0
        await until(lambda: embedding("other").get("activateResult") == "Done", "the status says that it is done")
        assert embedding("other")["active"] is True
        assert "asked for by alice" in embedding("other")["activateMessage"]
        guarded.kubectl("delete", "validatingadmissionpolicybinding", f"{guarded.name}-activate")
        assert annotate(guarded, "alice", "activate=once more", name="other").returncode == 0
        await until(lambda: embedding("other").get("activateResult") == "Refused", "without a policy it is refused")

        def told() -> bool:
            return {"Activated", "ActivationRefused"} <= {event["reason"] for event in guarded.items("events")}

        await until(told, "both are told by Events")


AUDITS = '{"spec": {"validationActions": ["Audit"]}}'
