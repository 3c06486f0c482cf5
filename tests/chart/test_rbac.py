"""Permissions: what the chart grants is what docs/rbac.md names, rule by rule, each with its reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from fixtures.chart import CHART, OFFLINE, ROOT, Chart, Manifest, overlay

SERVED = {"providers": {"namespaces": ["agents", "research"]}}
ACCOUNTS = {f"memory-{component}": component for component in ("operator", "api", "worker", "webhook")}
DOCUMENT = (ROOT / "docs" / "rbac.md").read_text()

Right = tuple[str, str, str, str]
"""Who, verb, resource, where: served, or all namespaces, or cluster."""


def documented() -> dict[Right, str]:
    """The rows of the first table of docs/rbac.md, one for each verb; the value is the whole `where`."""
    rows: dict[Right, str] = {}
    for line in DOCUMENT.split("## What callers")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in ("operator", "api", "worker") and cells[1] != "–":
            place = cells[3].split(",")[0]
            for verb in cells[1].split(", "):
                rows[cells[0], verb, cells[2].strip("`"), place] = cells[3]
    return rows


def granted(objects: list[Manifest]) -> set[Right]:
    """What the ServiceAccounts of the release may do, from the bindings."""
    roles = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in objects}
    rights = set()
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        namespace, ref = binding["metadata"].get("namespace"), binding["roleRef"]
        role = roles[ref["kind"], namespace if ref["kind"] == "Role" else None, ref["name"]]
        for subject in binding["subjects"]:
            who = ACCOUNTS.get(subject["name"])
            for rule in role["rules"] if who else []:
                for resource in rule["resources"]:
                    review = resource.endswith("reviews")
                    place = "served" if namespace else "cluster" if review else "all namespaces"
                    rights |= {(who, verb, resource, place) for verb in rule["verbs"]}
    return rights


def test_the_processes_may_do_what_the_document_names_and_nothing_else(chart: Chart) -> None:
    beside_foreign = overlay(SERVED, {"providers": {"foreignCRD": True}, "crds": {"enabled": False}})
    assert granted(chart.render(OFFLINE, beside_foreign)) == set(documented())


@pytest.mark.parametrize(
    ("values", "marker"),
    [
        ({"providers": {"reportElsewhere": False}}, "all namespaces, optional"),
        ({"auth": {"mode": "tokens", "tokens": {"existingSecret": "t"}}}, "cluster, `auth.mode: kubernetes`"),
    ],
    ids=["reportElsewhere", "auth.mode"],
)
def test_what_is_not_used_is_not_granted(chart: Chart, values: dict[str, Any], marker: str) -> None:
    rows = {right: where for right, where in documented().items() if "group's own CRD" not in where}
    assert any(where == marker for where in rows.values())
    left = {right for right, where in rows.items() if where != marker}
    assert granted(chart.render(OFFLINE, overlay(SERVED, values))) == left


def test_rights_beside_the_groups_own_crd_are_granted_only_there(chart: Chart) -> None:
    assert ("operator", "patch", "providers", "served") not in granted(chart.render(OFFLINE, SERVED))


def test_nobody_may_list_secrets_or_read_one_outside_of_the_served_namespaces(chart: Chart) -> None:
    objects = chart.render(OFFLINE, SERVED)
    holders = [each for each in objects if any("secrets" in rule["resources"] for rule in each.get("rules", []))]
    assert {(each["kind"], each["metadata"]["namespace"]) for each in holders} == {
        ("Role", "agents"),
        ("Role", "research"),
    }
    for each in holders:
        assert [rule["verbs"] for rule in each["rules"] if "secrets" in rule["resources"]] == [["get"]]


def test_the_secrets_that_may_be_read_can_be_listed(chart: Chart) -> None:
    narrowed = overlay(SERVED, {"providers": {"credentialSecrets": ["openai-key"]}})
    rules = [rule for each in chart.render(OFFLINE, narrowed) for rule in each.get("rules", [])]
    assert {tuple(rule.get("resourceNames", ())) for rule in rules if "secrets" in rule["resources"]} == {
        ("openai-key",)
    }


def test_nothing_is_deleted_and_nothing_is_a_wildcard(chart: Chart) -> None:
    for right in granted(chart.render(OFFLINE, SERVED)):
        assert right[1] not in ("delete", "deletecollection", "update", "*", "escalate", "bind", "impersonate")
        assert "*" not in right[2]


def test_the_ready_made_roles_are_the_documented_ones(chart: Chart) -> None:
    table = DOCUMENT.split("## Ready-made roles")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `…-(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    objects = chart.render(OFFLINE, SERVED)
    for name, rights in rows.items():
        (role,) = [each for each in objects if each["metadata"]["name"] == f"memory-memory-system-{name}"]
        made = {
            f"{verb} `{resource}`" for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]
        }
        assert made == {right.strip() for right in rights.split(",")}
    assert set(rows) == {"memories", "consent", "operate"}


def test_bindings_count_where_they_say(chart: Chart) -> None:
    objects = chart.render(CHART / "ci" / "production-values.yaml")
    bound = {
        (each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"])
        for each in objects
        if each["kind"].endswith("RoleBinding") and each["roleRef"]["name"].endswith(("-memories", "-consent"))
    }
    assert bound == {
        ("RoleBinding", "agents", "memory-memory-system-memories"),
        ("ClusterRoleBinding", None, "memory-memory-system-consent"),
    }


def test_without_rbac_create_nothing_is_granted(chart: Chart) -> None:
    objects = chart.render(OFFLINE, {"rbac": {"create": False}})
    ours = [each for each in objects if "rbac" in each["apiVersion"] and "hook" not in str(each["metadata"])]
    assert ours == []


def test_every_rule_says_why() -> None:
    for name in ("rbac.yaml", "user-roles.yaml"):
        lines = (CHART / "templates" / name).read_text().splitlines()
        for number, line in enumerate(lines):
            is_rule = line.strip().startswith("- apiGroups") and "secretsRule" not in lines[number - 1]
            if is_rule or 'include "memory.secretsRule"' in line:
                above = lines[number - 1].strip()
                assert above.startswith("#") or "define" in above, f"{name}:{number + 1}"


def test_the_manifests_that_the_cluster_tests_run_with_grant_the_same(chart: Chart) -> None:
    files = ("rbac.yaml", "rbac-everywhere.yaml", "rbac-foreign.yaml")
    texts = [(ROOT / "tests" / "cluster" / file).read_text() for file in files]
    manifests = [each for text in texts for each in yaml.safe_load_all(text) if each]
    beside_foreign = overlay(SERVED, {"providers": {"foreignCRD": True}, "crds": {"enabled": False}})
    assert granted(manifests) == granted(chart.render(OFFLINE, beside_foreign))
