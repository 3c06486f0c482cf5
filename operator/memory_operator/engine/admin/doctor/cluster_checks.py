"""Checks of the cluster: the API server's clock, and the webhook that warns of edits."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from memory_operator.engine.admin.doctor.limits import within
from memory_operator.engine.admin.doctor.report import Finding, Result
from memory_operator.engine.admin.doctor.server_checks import drift
from memory_operator.engine.ports.cluster import ClusterView, Registration
from memory_operator.errors import MemoryOperatorError, NotPermitted

CLUSTER_SECONDS = 10.0
_SOON = timedelta(days=14)


async def cluster(view: ClusterView | None) -> list[Finding]:
    """What can be seen of a cluster; nothing is asked where there is none."""
    if view is None:
        return [Finding("webhook", "skipped", "this process knows no cluster")]
    return [await _clock(view), *await _webhook(view)]


async def _clock(view: ClusterView) -> Finding:
    before = time.time()
    try:
        theirs = await within(CLUSTER_SECONDS, view.clock(), "doctor's look at the API server")
    except MemoryOperatorError as error:
        return Finding("clocks", "warn", f"the API server does not tell its time: {error.message}", remedy=error.hint)
    # To the second, and cut off: on average half a second less than it is.
    return drift("the API server", theirs.timestamp() + 0.5 - (before + time.time()) / 2)


async def _webhook(view: ClusterView) -> list[Finding]:
    try:
        found = await within(CLUSTER_SECONDS, view.registrations(), "doctor's look at the webhook")
    except NotPermitted as error:
        return [Finding("webhook", "not_permitted", error.message, remedy=error.hint)]
    except MemoryOperatorError as error:
        return [Finding("webhook", "warn", error.message, remedy=error.hint)]
    if not found:
        message = "no webhook is registered: kubectl apply does not warn of what an edit costs"
        return [Finding("webhook", "warn", message, remedy="helm upgrade … --set webhook.enabled=true")]
    return [_registered(each) for each in found]


def _registered(each: Registration) -> Finding:
    remedy = "docs/runbook.md, MemoryCertificateExpires, says how to renew it"
    if each.fault:
        message = f"the API server cannot call {each.name}: {each.fault}; edits are not warned of"
        return Finding("webhook", "warn", message, each.name, remedy)
    if each.expires is None:
        return Finding("webhook", "ok", f"{each.name} is registered; its certificate was not seen from here", each.name)
    left = each.expires - datetime.now(UTC)
    message = f"{each.name} is registered; its certificate ends on {each.expires:%F}"
    result: Result = "ok" if left > _SOON else "warn" if left > timedelta() else "fail"
    return Finding("webhook", result, message, each.name, "" if result == "ok" else remedy)
