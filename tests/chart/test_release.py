"""A release over its life on a real API server: what is made once, what stays, what is left to others."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from textwrap import dedent
from typing import Any

import pytest
from cryptography import x509

from cluster.harness import ControlPlane
from fixtures.chart import CHART, OFFLINE, ROOT, Chart, HelmRefusalError, Releases, named, overlay
from fixtures.waiting import eventually
from memory_operator.engine.ports.secrets import usable_values
from memory_operator.errors import SecretMissing

CRD_NAME = "providers.omnia.altairalabs.ai"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/providers.omnia.altairalabs.ai"
PROVIDERS = "/apis/omnia.altairalabs.ai/v1alpha1/providers"
CLUSTER_ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
OUR_CRD = ROOT / "crds" / "omnia.altairalabs.ai_providers.yaml"
FOREIGN = ROOT / "tests" / "cluster" / "foreign_crd.yaml"
EMBEDDED: dict[str, Any] = {"postgresql": {"embedded": True}}
SECRETS = ("memory-master-key", "memory-postgresql", "memory-webhook-tls")


@pytest.fixture
def place(releases: Releases, namespace: str) -> Iterator[str]:
    """A namespace; no release is left in it."""
    yield namespace
    if '"name":"memory"' in releases.run("list", "-n", namespace, "--all", "-o", "json"):
        releases.run("uninstall", "memory", "-n", namespace)


@pytest.fixture
def no_crd(releases: Releases) -> Iterator[ControlPlane]:
    """No CRD of Providers before the test, and none of the release's after it."""
    control_plane = releases.control_plane
    control_plane.remove_crd(CRD_NAME)
    yield control_plane
    control_plane.remove_crd(CRD_NAME)


def kept(releases: Releases, namespace: str) -> dict[str, dict[str, str] | None]:
    return {name: releases.secret(namespace, name) for name in SECRETS}


def test_what_is_secret_is_made_once_and_outlives_upgrades(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    first = kept(releases, place)
    assert all(first.values())
    releases.install("upgrade", place, EMBEDDED, {"worker": {"replicaCount": 2}})
    releases.install("upgrade", place, EMBEDDED, {"commonLabels": {"a": "b"}})
    assert kept(releases, place) == first


def test_an_uninstalled_release_finds_its_key_and_its_password_again(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    first = kept(releases, place)
    releases.run("uninstall", "memory", "-n", place)
    left = kept(releases, place)
    assert left["memory-webhook-tls"] is None
    assert (left["memory-master-key"], left["memory-postgresql"]) == (
        first["memory-master-key"],
        first["memory-postgresql"],
    )
    releases.install("install", place, EMBEDDED)
    again = kept(releases, place)
    assert again["memory-master-key"] == first["memory-master-key"]
    assert again["memory-postgresql"] == first["memory-postgresql"]


def test_no_secret_of_an_installed_release_is_given_to_a_provider(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    # The key that the chart made stays there when the release goes over to another one.
    releases.install("upgrade", place, EMBEDDED, {"masterKey": {"existingSecret": "another"}})
    secrets = releases.control_plane.request("GET", f"/api/v1/namespaces/{place}/secrets").body["items"]
    assert {each["metadata"]["name"] for each in secrets} >= {*SECRETS, "sh.helm.release.v1.memory.v1"}
    for secret in secrets:
        with pytest.raises(SecretMissing, match="is for no Provider"):
            usable_values(
                place, secret["metadata"]["name"], secret["type"], secret["metadata"].get("labels", {}), secret["data"]
            )


def test_the_master_key_is_32_bytes_as_base64(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    secret = releases.secret(place, "memory-master-key")
    assert secret is not None
    assert len(base64.b64decode(base64.b64decode(secret["key"]), validate=True)) == 32


def test_an_upgrade_never_makes_another_master_key(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    releases.control_plane.kubectl("-n", place, "delete", "secret", "memory-master-key")
    with pytest.raises(HelmRefusalError, match="with the master key is gone"):
        releases.install("upgrade", place, EMBEDDED)


def test_a_new_password_of_the_database_is_set_by_an_upgrade(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    releases.install("upgrade", place, EMBEDDED, {"postgresql": {"auth": {"password": "new/one"}}})
    secret = releases.secret(place, "memory-postgresql")
    assert secret is not None
    assert base64.b64decode(secret["password"]) == b"new/one"
    url = base64.b64decode(secret["uri"]).decode()
    assert url == f"postgresql://memory:new%2Fone@memory-postgresql.{place}.svc:5432/memory"
    releases.install("upgrade", place, EMBEDDED)
    assert releases.secret(place, "memory-postgresql") == secret


def test_the_api_server_trusts_the_certificate_that_the_webhook_shows(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    secret = releases.secret(place, "memory-webhook-tls")
    assert secret is not None
    path = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/memory-{place}"
    configuration = releases.control_plane.request("GET", path).body
    assert configuration["webhooks"][0]["clientConfig"]["caBundle"] == secret["ca.crt"]
    certificate, authority = (
        x509.load_pem_x509_certificate(base64.b64decode(secret[name])) for name in ("tls.crt", "ca.crt")
    )
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert f"memory-webhook.{place}.svc" in names.get_values_for_type(x509.DNSName)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3640)


def test_a_certificate_in_its_last_year_is_replaced_by_an_upgrade(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    first = releases.secret(place, "memory-webhook-tls")
    releases.control_plane.kubectl(
        "-n", place, "annotate", "secret", "memory-webhook-tls", "--overwrite", "memory-operator/renew-after=1"
    )
    releases.install("upgrade", place, EMBEDDED)
    second = releases.secret(place, "memory-webhook-tls")
    assert second != first
    releases.install("upgrade", place, EMBEDDED)
    assert releases.secret(place, "memory-webhook-tls") == second


def test_the_authority_of_an_own_certificate_is_looked_up(releases: Releases, place: str) -> None:
    values = overlay(EMBEDDED, {"webhook": {"tls": {"mode": "existingSecret", "existingSecret": "mine"}}})
    with pytest.raises(HelmRefusalError, match=r"webhook\.tls\.caBundle is needed"):
        releases.render(values, namespace=place)
    releases.control_plane.kubectl(
        "-n", place, "create", "secret", "generic", "mine", "--from-literal=ca.crt=authority"
    )
    objects = releases.render(values, namespace=place)
    client = named(objects, "ValidatingWebhookConfiguration", f"memory-{place}")["webhooks"][0]["clientConfig"]
    assert base64.b64decode(client["caBundle"]) == b"authority"


def test_the_crd_is_upgraded_with_the_release_and_stays_when_it_goes(
    releases: Releases, place: str, no_crd: ControlPlane
) -> None:
    releases.install("install", place, EMBEDDED)
    assert no_crd.request("GET", CRD).ok
    releases.install("upgrade", place, EMBEDDED, {"crds": {"annotations": {"example.com/a": "b"}}})
    assert no_crd.request("GET", CRD).body["metadata"]["annotations"]["example.com/a"] == "b"
    releases.run("uninstall", "memory", "-n", place)
    assert no_crd.request("GET", CRD).ok
    older = {"spec": {"versions": older_versions(no_crd)}}
    assert no_crd.request("PATCH", CRD, older, content_type="application/merge-patch+json").ok
    releases.install("install", place, EMBEDDED)
    assert "activation" in embedding_fields(no_crd.request("GET", CRD).body["spec"]["versions"])


def embedding_fields(versions: list[dict[str, Any]]) -> dict[str, Any]:
    """What a CRD has below spec.embedding."""
    schema = versions[0]["schema"]["openAPIV3Schema"]["properties"]
    fields: dict[str, Any] = schema["spec"]["properties"]["embedding"]["properties"]
    return fields


def older_versions(control_plane: ControlPlane) -> list[dict[str, Any]]:
    """The installed CRD's versions as an older release might have had them."""
    versions: list[dict[str, Any]] = control_plane.request("GET", CRD).body["spec"]["versions"]
    del embedding_fields(versions)["activation"]
    return versions


@pytest.mark.parametrize("enabled", [True, False])
def test_a_crd_of_somebody_else_is_left_alone_and_noticed(
    releases: Releases, place: str, no_crd: ControlPlane, enabled: bool
) -> None:
    no_crd.install_crd(FOREIGN.read_text())
    releases.install("install", place, EMBEDDED, {"crds": {"enabled": enabled}})
    crd = no_crd.request("GET", CRD).body
    assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})
    role = no_crd.request("GET", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place}/roles/memory-operator").body
    # Beside the group's own CRD the figures become an annotation, which takes one permission more.
    assert ["patch"] in [rule["verbs"] for rule in role["rules"] if rule["resources"] == ["providers"]]


def test_a_release_says_how_it_takes_over_the_crd_that_an_uninstalled_one_left(
    releases: Releases, place: str, no_crd: ControlPlane
) -> None:
    releases.install("install", "agents", EMBEDDED)
    releases.run("uninstall", "memory", "-n", "agents")
    told = releases.run("install", "memory", str(CHART), "-n", place, "-f", releases.values(EMBEDDED))
    assert "belongs to release memory of namespace agents" in told
    assert "IT IS OLDER" not in told
    no_crd.kubectl("label", "--overwrite", "crd", CRD_NAME, "app.kubernetes.io/version=0.0.9")
    told = releases.run("upgrade", "memory", str(CHART), "-n", place, "-f", releases.values(EMBEDDED))
    assert "is of version 0.0.9" in told
    assert "IT IS OLDER than this release" in told
    for command in re.findall(r"^ +kubectl ((?:annotate|label) --overwrite crd .*)$", told, re.MULTILINE):
        no_crd.kubectl(*command.split())
    told = releases.run(
        "upgrade", "memory", str(CHART), "-n", place, "-f", releases.values(EMBEDDED),
        "--set", "crds.annotations.of=the-second",
    )  # fmt: skip
    assert "belongs to release" not in told
    assert no_crd.request("GET", CRD).body["metadata"]["annotations"]["of"] == "the-second"


def test_a_crd_of_ours_that_somebody_applied_is_known_by_its_fields_and_taken_over_as_told(
    releases: Releases, place: str, no_crd: ControlPlane
) -> None:
    no_crd.install_crd(OUR_CRD.read_text())
    told = releases.run("install", "memory", str(CHART), "-n", place, "-f", releases.values(EMBEDDED))
    assert "belongs to no release (written by " in told
    assert "type: local" in told, "the notes declare what our CRD takes"
    for command in re.findall(r"^ +kubectl ((?:annotate|label) --overwrite crd .*)$", told, re.MULTILINE):
        no_crd.kubectl(*command.split())
    told = releases.run("upgrade", "memory", str(CHART), "-n", place, "-f", releases.values(EMBEDDED))
    assert "belongs to no release" not in told
    labels = no_crd.request("GET", CRD).body["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "memory-operator"


def test_a_release_says_that_the_crd_of_somebody_else_was_left(
    releases: Releases, place: str, no_crd: ControlPlane
) -> None:
    no_crd.install_crd(FOREIGN.read_text())
    told = releases.run("install", "memory", str(CHART), "-n", place, "-f", releases.values(EMBEDDED))
    assert re.search(r"the CRD of Providers is not of memory-operator \(written by [^)]+\)", told)


@pytest.mark.parametrize("which", ["ours", "the group's own"])
def test_the_provider_that_the_notes_declare_fits_the_crd_that_is_there(
    releases: Releases, place: str, no_crd: ControlPlane, which: str
) -> None:
    if which != "ours":
        no_crd.install_crd(FOREIGN.read_text())
    told = releases.run("install", "memory", str(CHART), "-n", place, "-f", releases.values(EMBEDDED))
    found = re.search(r"kubectl apply -f - <<'EOF'\n(.*?)^ +EOF$", told, re.DOTALL | re.MULTILINE)
    assert found
    eventually(lambda: no_crd.request("GET", PROVIDERS).ok, "Providers are served")
    said = no_crd.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=dedent(found[1])).stdout
    assert "memory-embeddings created" in said


def test_a_second_release_leaves_the_crd_to_the_first(releases: Releases, place: str, no_crd: ControlPlane) -> None:
    releases.install("install", place, EMBEDDED)
    objects = releases.render(EMBEDDED, namespace="memory-system")
    assert not [each for each in objects if each["kind"] == "CustomResourceDefinition"]
    operator = named(objects, "Role", "memory-operator")
    assert ["patch"] not in [rule["verbs"] for rule in operator["rules"] if rule["resources"] == ["providers"]]


def test_beside_another_release_providers_elsewhere_are_not_told_that_they_are_not_served(
    releases: Releases, place: str
) -> None:
    roles = [each["metadata"]["name"] for each in releases.render(EMBEDDED) if each["kind"] == "ClusterRole"]
    assert "memory-memory-system-operator" in roles, "one alone tells them"
    releases.install("install", place, EMBEDDED)
    roles = [each["metadata"]["name"] for each in releases.render(EMBEDDED) if each["kind"] == "ClusterRole"]
    assert "memory-memory-system-operator" not in roles
    chosen = releases.render(EMBEDDED, {"providers": {"reportElsewhere": True}})
    assert named(chosen, "ClusterRole", "memory-memory-system-operator")
    told = releases.run(
        "install", "memory", str(CHART), "-n", "memory-system", "-f", releases.values(EMBEDDED), "--dry-run=server"
    )
    assert f"NOTE: {place}/memory is a release of memory-operator too." in told
    releases.install("upgrade", place, EMBEDDED)
    role = releases.control_plane.request("GET", f"{CLUSTER_ROLES}/memory-{place}-operator")
    assert role.ok, "it is no other release than itself"


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no database": ({"database": {"existingSecret": ""}}, "a database is needed"),
    "two databases": ({"database": {"url": "postgresql://u@h/d"}}, "choose one database"),
    "a role without its URL": ({"database": {"api": {"role": "memory_api"}}}, "go together"),
    "no master key": ({"masterKey": {"existingSecret": ""}}, "Set masterKey.existingSecret"),
    "no certificate": ({"webhook": {"tls": {"mode": "helm"}}}, "Set webhook.tls.mode"),
    "no password": (
        {"database": {"existingSecret": ""}, "postgresql": {"embedded": True}},
        "Set postgresql.auth.existingSecret",
    ),
    "no token file": ({"auth": {"mode": "tokens"}}, "set auth.tokens.existingSecret"),
    "no certificate Secret": ({"webhook": {"tls": {"mode": "existingSecret"}}}, "set webhook.tls.existingSecret"),
    "no host": ({"api": {"ingress": {"enabled": True}}}, "set api.ingress.hosts"),
    "scaled backwards": (
        {"worker": {"autoscaling": {"enabled": True, "minReplicas": 5}}},
        "minReplicas is above maxReplicas",
    ),
    "scaled by two": (
        {"worker": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}},
        "both choose how many workers",
    ),
    "scaled to none by CPU": ({"worker": {"autoscaling": {"enabled": True, "minReplicas": 0}}}, "minReplicas"),
    "read twice": (
        {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
        "enable one of them",
    ),
    "roles that are not made": (
        {"rbac": {"userRoles": False, "bindings": [{"role": "consent", "subjects": [{"kind": "Group", "name": "g"}]}]}},
        "set rbac.userRoles",
    ),
    "open to everybody": ({"auth": {"mode": "none"}}, "/auth/mode"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_is_refused_with_what_to_do(case: str, chart: Chart) -> None:
    values, message = REFUSALS[case]
    with pytest.raises(HelmRefusalError) as caught:
        chart.render(OFFLINE, values)
    assert message in str(caught.value)


def test_nothing_secret_is_made_without_a_cluster(chart: Chart) -> None:
    assert not [each for each in chart.render(OFFLINE) if each["kind"] == "Secret"]


RIGHTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant, namespace: PLACE}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tenant, namespace: PLACE}
rules:
  - {apiGroups: [""], resources: [secrets, namespaces], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant, namespace: PLACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}
subjects: [{kind: ServiceAccount, name: tenant, namespace: PLACE}]
"""


def test_who_has_rights_in_one_namespace_only_can_install_there(releases: Releases, place: str) -> None:
    releases.control_plane.kubectl("apply", "-f", "-", input=RIGHTS.replace("PLACE", place))
    right = {"resource": "namespaces", "verb": "get", "namespace": place, "name": place}
    releases.control_plane.wait_until_allowed(f"system:serviceaccount:{place}:tenant", right)
    kubeconfig = releases.control_plane.service_account_kubeconfig(place, "tenant")
    tenant = replace(releases, environment={**releases.environment, "KUBECONFIG": str(kubeconfig)})
    scenario = CHART / "ci" / "no-cluster-roles-values.yaml"
    objects = tenant.render(scenario, {"masterKey": {"existingSecret": ""}}, namespace=place)
    assert named(objects, "Secret", "memory-master-key")
    with pytest.raises(HelmRefusalError, match="forbidden"):
        tenant.render(EMBEDDED, namespace=place)


def test_the_notes_name_the_next_commands(releases: Releases, place: str) -> None:
    releases.install("install", place, EMBEDDED)
    notes = json.loads(releases.run("status", "memory", "-n", place, "-o", "json"))["info"]["notes"]
    assert f"helm test memory -n {place}" in notes
    assert "kind: Provider" in notes
    assert f"kubectl get providers -n {place} --watch" in notes
    assert "KEEP A COPY of the master key" in notes
    assert "trying it out" in notes
    assert "The release's own Secrets are withheld" in notes
