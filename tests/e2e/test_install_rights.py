"""What the pods of a release may do, and what they do: nothing that docs/rbac.md does not name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.release import NAME, NAMESPACE, SERVED, Release

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "rbac.md"
COMPONENTS = ("operator", "api", "worker", "webhook")
UNNAMED = "nobody-names-me"

Right = tuple[str, str]
"""Verb and resource."""


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("namespace", [SERVED, NAMESPACE, "vendor"])
def test_a_service_account_may_do_nothing_that_the_document_does_not_name(
    release: Release, component: str, namespace: str
) -> None:
    everybody = _rights(release, f"system:serviceaccount:{SERVED}:stranger", namespace)
    granted = _rights(release, f"system:serviceaccount:{NAMESPACE}:{NAME}-{component}", namespace) - everybody
    documented = set(_documented(component, served=namespace == SERVED))
    assert granted <= documented, granted - documented
    if namespace == SERVED and component != "webhook":
        assert ("get", "secrets") in granted


def test_the_webhook_has_no_token(release: Release) -> None:
    for pod in release.pods("webhook"):
        volumes = release.node.get("pod", pod, "-n", NAMESPACE)["spec"]["volumes"]
        assert not [volume for volume in volumes if "projected" in volume]


def test_the_api_uses_the_database_by_a_role_of_its_own(release: Release) -> None:
    roles = "select string_agg(distinct usename, ' ') from pg_stat_activity where application_name like 'memory-%'"
    assert release.psql(f"{roles} and application_name = 'memory-api'") == "memory_api"
    assert release.psql(f"{roles} and application_name in ('memory-operator', 'memory-worker')") == "memory"
    owned = "select count(*) from pg_class where relowner = 'memory_api'::regrole"
    assert release.psql(owned) == "0"


def test_a_secret_that_no_provider_names_is_not_read(release: Release) -> None:
    """By default the API server would allow it, since the name is chosen in the Provider: nobody does it."""
    _make_secret(release, UNNAMED)
    release.declare()
    release.patch({"credential": {"secretRef": {"name": "vendor-key", "key": "key"}}})
    _make_secret(release, "vendor-key")
    release.poll(lambda: ("get", "vendor-key") in set(_secrets_read(release)), "the Secret that is named is read")
    release.condition("CredentialResolved", "Resolved")
    assert set(_secrets_read(release)) <= {("get", "vendor-key")}
    release.patch({"credential": None})


def test_where_the_secrets_are_listed_all_others_are_forbidden(release: Release) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:{NAME}-operator"
    assert _may_read(release, account, UNNAMED)
    release.upgrade({"providers": {"credentialSecrets": ["vendor-key"]}})
    try:
        assert _may_read(release, account, "vendor-key")
        assert not _may_read(release, account, UNNAMED)
    finally:
        release.upgrade()


def _rights(release: Release, account: str, namespace: str) -> set[Right]:
    """What `kubectl auth can-i --list` says, without groups of resources."""
    said = release.node.kubectl("auth", "can-i", "--list", "--as", account, "-n", namespace).stdout
    found = set()
    for line in said.splitlines()[1:]:
        match = re.fullmatch(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]", line)
        assert match, line
        name, _, part = match[1].partition("/")
        resource = "/".join(each for each in (name.partition(".")[0], part) if each)
        found |= {(verb, resource) for verb in match[4].split() if resource}
    return found


def _documented(component: str, *, served: bool) -> Iterator[Right]:
    """The rows of the table for a component that count there."""
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 5 or cells[0] != component or not (served or not cells[3].startswith("served")):
            continue
        for verb in cells[1].split(","):
            yield verb.strip(), cells[2].strip("`")


def _make_secret(release: Release, name: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Secret", "stringData": {"key": "sesame"}}
    metadata = {"name": name, "namespace": SERVED}
    release.node.kubectl("apply", "-f", "-", input=json.dumps(manifest | {"metadata": metadata}))


def _may_read(release: Release, account: str, secret: str) -> bool:
    words = ("auth", "can-i", "get", f"secrets/{secret}", "--as", account, "-n", SERVED)
    return release.node.kubectl(*words, check=False).stdout.strip() == "yes"


def _secrets_read(release: Release) -> Iterator[tuple[str, str]]:
    """Verb and name of everything that our pods have asked the API server about Secrets, by its audit log."""
    for line in release.node.layout.audit.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"].startswith(f"system:serviceaccount:{NAMESPACE}:"):
            yield event["verb"], event["objectRef"].get("name", "")
