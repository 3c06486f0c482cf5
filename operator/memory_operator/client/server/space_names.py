"""Spaces by the names that people use for them."""

from __future__ import annotations

from memory_operator.client.errors import CommandError
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import SpacesDocument


def space_named(api: ApiClient, name: str | None) -> dict[str, str]:
    """What a request says of a space: its version, or its Provider; nothing where no name is given.

    A Provider is named as namespace/name, or as name where that is enough. Raises CommandError.
    """
    if name is None:
        return {}
    if "/" in name:
        return {"provider": name}
    spaces = read(SpacesDocument, api.get(paths.SPACES)).spaces
    if any(space.embedding_version == name for space in spaces):
        return {"embedding_version": name}
    providers = sorted({space.provider for space in spaces if space.provider.partition("/")[2] == name})
    if len(providers) == 1:
        return {"provider": providers[0]}
    known = ", ".join(providers or [space.embedding_version for space in spaces]) or "none"
    raise CommandError(f"there is no space {name!r}", f"{'Providers of that name' if providers else 'spaces'}: {known}")
