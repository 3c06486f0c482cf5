"""Tokens and permissions, asked of a real API server as the API's ServiceAccount."""

from __future__ import annotations

import pytest
from kubernetes.aio.client import ApiClient

from cluster.harness import ControlPlane
from fixtures.kube import Namespace
from fixtures.waiting import until
from memory_operator.engine.ports.access import Access
from memory_operator.errors import SourceUnavailable
from memory_operator.kube.client import open_api
from memory_operator.kube.reviews import access_reviewer, token_reviewer

CONSENT_ROLE = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: owner, namespace: SERVED}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: consent, namespace: SERVED}
rules: [{apiGroups: [omnia.altairalabs.ai], resources: [providers/consent], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: consent, namespace: SERVED}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: consent}
subjects: [{kind: ServiceAccount, name: owner, namespace: SERVED}]
"""


async def test_a_token_of_a_service_account_is_its_user_and_another_one_is_nobody(served: Namespace) -> None:
    async with open_api(served.kubeconfig_of("memory-api")) as api:
        caller = await token_reviewer(api)(served.token_of("memory-worker"))
        assert caller is not None
        assert caller.username == f"system:serviceaccount:{served.name}:memory-worker"
        assert f"system:serviceaccounts:{served.name}" in caller.groups
        assert caller.uid
        assert await token_reviewer(api)("made-up") is None


async def test_consent_is_a_permission_of_its_own_in_one_namespace(served: Namespace) -> None:
    served.apply(CONSENT_ROLE)
    async with open_api(served.kubeconfig_of("memory-api")) as api:
        review, may = token_reviewer(api), access_reviewer(api)
        owner = await review(served.token_of("owner"))
        worker = await review(served.token_of("memory-worker"))
        assert owner is not None
        assert worker is not None
        consent = Access("create", "providers", "consent", served.name)
        assert await may(owner, consent)
        assert not await may(worker, consent)
        assert not await may(owner, Access("create", "providers", "consent"))
        assert not await may(owner, Access("create", "providers", "activate", served.name))
        assert not await may(owner, Access("create", "providers", "", served.name))
        assert not await may(owner, Access("create", "providers", "consent", "default"))


async def test_who_may_not_ask_for_reviews_learns_what_is_missing(served: Namespace) -> None:
    async with open_api(served.kubeconfig_of("memory-worker")) as api:
        with pytest.raises(SourceUnavailable, match=r"create on tokenreviews of authentication\.k8s\.io in all namesp"):
            await token_reviewer(api)("any")


async def unavailable(api: ApiClient) -> bool:
    try:
        await token_reviewer(api)("any")
    except SourceUnavailable:
        return True
    return False


async def test_an_api_server_that_is_down_or_frozen_neither_denies_nor_allows(
    served: Namespace, control_plane: ControlPlane
) -> None:
    async with open_api(served.kubeconfig_of("memory-api")) as api:
        caller = await token_reviewer(api)(served.token_of("memory-worker"))
        assert caller is not None
        for fault in (control_plane.paused, control_plane.down):
            with fault():
                await until(lambda: unavailable(api), "a server that no longer answers")  # a stop takes a moment
                with pytest.raises(SourceUnavailable):
                    await token_reviewer(api)("any")
                with pytest.raises(SourceUnavailable):
                    await access_reviewer(api)(caller, Access("get", "memories"))
