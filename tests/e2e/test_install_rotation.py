"""Keys, passwords and certificates change while the release is in use: nobody who tries twice notices."""

from __future__ import annotations

import base64
import json

import pytest

from e2e.load import people
from e2e.release import NAME, NAMESPACE, SERVED, Release

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

PICKED_UP_SECONDS = 120.0


@pytest.fixture
def used(release: Release) -> Release:
    """The Provider is as it was declared, and there is something to find."""
    release.declare()
    release.add("what a rotation must not lose")
    return release


def test_the_certificate_of_the_webhook(used: Release) -> None:
    pods = set(used.pods("webhook"))
    before = _certificate(used)
    used.node.kubectl("-n", NAMESPACE, "delete", "secret", f"{NAME}-webhook-tls")
    used.upgrade()
    assert _certificate(used) != before
    # An edit goes through meanwhile, warned of or not.
    dimensions = used.provider()["spec"]["embedding"]["dimensions"]
    used.poll(lambda: "Warning" in _edited(used, dimensions), "warnings with the new certificate", PICKED_UP_SECONDS)
    assert set(used.pods("webhook")) == pods


def test_the_password_of_the_database(used: Release) -> None:
    with people(used.node.pid, used.address(), used.token("agent")) as report:
        used.poll(lambda: len(report.stored) > 4, "people use the API")
        used.upgrade({"postgresql": {"auth": {"password": "another-password-than-before"}}})
        used.all_ready()
        used.poll(lambda: _accepted(used, "another-password-than-before"), "the database knows it", PICKED_UP_SECONDS)
        # Whoever comes back has to know it too.
        used.psql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename in ('memory', 'memory_api')",
            role="postgres",
        )
        good = len(report.stored)
        used.poll(lambda: len(report.stored) > good + 8, "people still use the API", PICKED_UP_SECONDS)
    assert not report.given_up, report.given_up[:3]
    assert not report.wrong, report.wrong[:3]
    used.all_ready()


def test_the_key_of_the_vendor(used: Release) -> None:
    _set_key(used, "first-key")
    used.vendor(api_key="first-key")
    used.patch({"credential": {"secretRef": {"name": "vendor-key", "key": "key"}}})
    try:
        used.condition("CredentialResolved", "Resolved")
        used.poll(lambda: _searched(used) == "ok", "a search by meaning", PICKED_UP_SECONDS)
        with people(used.node.pid, used.address(), used.token("agent")) as report:
            _set_key(used, "second-key")
            used.vendor(api_key="second-key")
            used.poll(lambda: _searched(used) == "ok", "a search by meaning with the new key", PICKED_UP_SECONDS)
            good = len(report.stored)
            used.poll(lambda: len(report.stored) > good + 4, "people still use the API")
        assert not report.given_up, report.given_up[:3]
    finally:
        used.vendor(api_key=None)
        used.patch({"credential": None})
    used.settled(used.provider()["spec"]["embedding"]["dimensions"])


def _certificate(release: Release) -> str:
    return str(release.node.get("secret", f"{NAME}-webhook-tls", "-n", NAMESPACE)["data"]["tls.crt"])


def _edited(release: Release, dimensions: int) -> str:
    """What an edit is told; it is taken back at once."""
    said = release.edit(dimensions=dimensions + 1)
    release.edit(dimensions=dimensions)
    return said


def _accepted(release: Release, password: str) -> bool:
    """Whether the role logs in with it from elsewhere."""
    url = f"postgresql://memory:{password}@127.0.0.1:5432/memory"
    pod = f"{NAME}-postgresql-0"
    command = ("-n", NAMESPACE, "exec", pod, "--", "psql", url, "-XAtc", "select 1")
    return release.node.kubectl(*command, check=False).stdout.strip() == "1"


def _set_key(release: Release, key: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "vendor-key", "namespace": SERVED},
        "data": {"key": base64.b64encode(key.encode()).decode()},
    }
    release.node.kubectl("apply", "-f", "-", input=json.dumps(manifest))


def _searched(release: Release) -> str:
    answer = release.call("POST", "/memory/query", {"query": "what a rotation must not lose"})
    return str(answer.json()["diagnostics"]["semantic_status"])
