"""The database of a release: who uses it by which role, what the bundled one is made of."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from fixtures.chart import (
    CHART,
    EMBEDDED,
    OFFLINE,
    Chart,
    Manifest,
    Releases,
    containers,
    named,
)

PASSWORD = "correct-horse"
"""In the URL of the scenario database-url."""


@pytest.fixture(scope="module")
def bundled(chart: Chart) -> list[Manifest]:
    """A release with the bundled database."""
    return chart.render(OFFLINE, EMBEDDED, {"networkPolicy": {"egress": {"enabled": True}}})


def test_a_database_that_replays_its_log_is_not_ready_and_not_ended(bundled: list[Manifest], tmp_path: Path) -> None:
    container = containers(bundled)["StatefulSet/memory-postgresql:postgresql"]
    stub = tmp_path / "pg_isready"
    for code, meaning in enumerate(("takes connections", "takes none yet", "says nothing")):
        stub.write_text(f"#!/bin/sh\nexit {code}\n")
        stub.chmod(0o755)
        passed = {
            probe: subprocess.run(
                container[probe]["exec"]["command"], env={"PATH": f"{tmp_path}:{os.defpath}"}, check=False
            ).returncode
            == 0
            for probe in ("livenessProbe", "readinessProbe")
        }
        assert passed == {"livenessProbe": code < 2, "readinessProbe": code == 0}, meaning


def test_the_store_is_migrated_before_each_process_starts(bundled: list[Manifest]) -> None:
    for name in ("operator", "api", "worker"):
        spec = named(bundled, "Deployment", f"memory-{name}")["spec"]["template"]["spec"]
        (migrate,) = spec["initContainers"]
        assert migrate["args"] == ["migrate"]
        assert migrate["image"] == spec["containers"][0]["image"]


def test_the_api_waits_for_the_others_where_its_role_may_not_migrate(chart: Chart) -> None:
    api = {"role": "memory_api", "existingSecret": "memory-db-api", "existingSecretKey": "url"}
    objects = chart.render(OFFLINE, {"database": {"api": api}})
    for name, secret, key, args in (
        ("operator", "memory-db-app", "uri", ["migrate"]),
        ("worker", "memory-db-app", "uri", ["migrate"]),
        ("api", "memory-db-api", "url", ["migrate", "--only-wait"]),
    ):
        spec = named(objects, "Deployment", f"memory-{name}")["spec"]["template"]["spec"]
        (migrate,) = spec["initContainers"]
        assert migrate["args"] == args
        assert {"name": "MEMORY_API_ROLE", "value": "memory_api"} in migrate["env"]
        (volume,) = [each["secret"] for each in spec["volumes"] if each["name"] == "database"]
        assert (volume["secretName"], volume["items"]) == (secret, [{"key": key, "path": "url"}])


def test_the_bundled_database_makes_the_apis_role_by_itself(chart: Chart) -> None:
    password = {"postgresql": {"embedded": True, "auth": {"password": "correct-horse"}}}
    objects = chart.render(OFFLINE, {"database": {"existingSecret": ""}}, password)
    secret = {
        key: base64.b64decode(value).decode()
        for key, value in named(objects, "Secret", "memory-postgresql")["data"].items()
    }
    api = secret["api-password"]
    assert len(api) == 64
    assert secret["api-uri"] == f"postgresql://memory_api:{api}@memory-postgresql.memory-system.svc:5432/memory"
    server = named(objects, "StatefulSet", "memory-postgresql")["spec"]["template"]["spec"]
    assert {"name": "POSTGRES_API_ROLE", "value": "memory_api"} in server["containers"][0]["env"]
    (mounted,) = [each["secret"]["items"] for each in server["volumes"] if each["name"] == "password"]
    assert {"key": "api-password", "path": "api-password"} in mounted
    pod = named(objects, "Deployment", "memory-api")["spec"]["template"]["spec"]
    (volume,) = [each["secret"] for each in pod["volumes"] if each["name"] == "database"]
    assert volume["items"] == [{"key": "api-uri", "path": "url"}]  # and not the owner's


def test_passwords_are_in_secrets_only(releases: Releases) -> None:
    objects = releases.render(CHART / "ci" / "database-url-values.yaml")
    encoded = base64.b64encode(PASSWORD.encode()).decode().rstrip("=")[:-2]
    holders = [each for each in objects if PASSWORD in json.dumps(each) or encoded in json.dumps(each)]
    assert holders == []  # base64 of the whole URL does not hold that of the password
    secret = named(objects, "Secret", "memory-database")
    assert PASSWORD in base64.b64decode(secret["data"]["uri"]).decode()
    for each in objects:
        if each["kind"] != "Secret":
            assert secret["data"]["uri"] not in json.dumps(each)


def test_network_policies_let_nobody_else_into_the_bundled_database(bundled: list[Manifest]) -> None:
    policy = named(bundled, "NetworkPolicy", "memory-postgresql")["spec"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "postgresql"}]
    (who,) = rule["from"]
    assert who["podSelector"]["matchExpressions"][0]["values"] == ["operator", "api", "worker"]
    assert policy["egress"] == []
    assert named(bundled, "NetworkPolicy", "memory-webhook")["spec"]["egress"] == []


def test_the_bundled_databases_service_is_headless(chart: Chart) -> None:
    objects = chart.render(OFFLINE, EMBEDDED)
    name = named(objects, "StatefulSet", "memory-postgresql")["spec"]["serviceName"]
    assert named(objects, "Service", name)["spec"]["clusterIP"] == "None"
