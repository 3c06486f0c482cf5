"""Whose Provider CRD is installed: ours, or the group's own, which has no place for our status."""

from __future__ import annotations

import asyncio
from typing import Literal

from kubernetes.aio.client import ApiClient

from memory_operator.contract.provider import GROUP, KIND, PLURAL, VERSION
from memory_operator.errors import SourceUnavailable
from memory_operator.kube.boundary import Manifest, read_path

Owner = Literal["ours", "foreign"]

_RECHECK_SECONDS = 300.0
_DISCOVERY = f"/apis/{GROUP}/{VERSION}"
_OPENAPI = f"/openapi/v3{_DISCOVERY}"


class CrdOwner:
    """Remembers for _RECHECK_SECONDS which CRD serves Providers.

    Read from the published OpenAPI document, which every authenticated user may read; the CRD itself would need a
    permission on the whole cluster.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._owner: Owner | None = None
        self._read_at = 0.0

    async def get(self) -> Owner:
        """Whose CRD it is. Raises SourceUnavailable, also while no schema is published yet."""
        now = asyncio.get_running_loop().time()
        if self._owner is None or now - self._read_at >= _RECHECK_SECONDS:
            document = await read_path(self._api, _OPENAPI)
            if document is None:
                raise SourceUnavailable(
                    f"no schema of {PLURAL}.{GROUP} is published", hint="install the CRD: memory-operator crds"
                )
            self._owner, self._read_at = owner_of(document), now
        return self._owner

    def forget(self) -> None:
        """Look again next time: the API server behaved as if the CRD had been replaced."""
        self._owner = None


def owner_of(document: Manifest) -> Owner:
    """Whose CRD an OpenAPI v3 document describes: ours has `status.embedding`. Raises SourceUnavailable."""
    for schema in document.get("components", {}).get("schemas", {}).values():
        kinds = schema.get("x-kubernetes-group-version-kind", [])
        if {"group": GROUP, "version": VERSION, "kind": KIND} in kinds:
            status = schema.get("properties", {}).get("status", {})
            return "ours" if "embedding" in status.get("properties", {}) else "foreign"
    raise SourceUnavailable(f"the published schema of {GROUP} has no {KIND}")


async def is_installed(api: ApiClient) -> bool:
    """Whether the API server serves Providers at all. Raises SourceUnavailable."""
    document = await read_path(api, _DISCOVERY)
    return document is not None and any(each.get("name") == PLURAL for each in document.get("resources", []))
