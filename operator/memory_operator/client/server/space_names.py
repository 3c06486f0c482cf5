"""Spaces by the names that people use for them."""

from __future__ import annotations

import re

from memory_operator.client.errors import CommandError
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import SpaceDocument, SpacesDocument


def space_named(api: ApiClient, name: str | None) -> dict[str, str]:
    """What a request says of a space: its version, or its Provider; nothing where no name is given.

    A Provider is named as namespace/name, or as name where that is enough; a space also by the beginning of its name
    where no other begins like this. Raises CommandError.
    """
    if name is None:
        return {}
    if "/" in name:
        return {"provider": name}
    listed = read(SpacesDocument, api.get(paths.SPACES))
    spaces, written = listed.spaces, _as_provider(name)
    found = _versions(spaces, name)
    providers = sorted({space.provider for space in spaces if space.provider.partition("/")[2] in (name, written)})
    if name in found or (len(found) == 1 and not providers):
        return {"embedding_version": name if name in found else found[0]}
    if len(providers) == 1:
        return {"provider": providers[0]}
    for waiting in listed.without_space:
        if waiting.provider.partition("/")[2] in (name, written) and not providers and not found:
            raise CommandError(f"{waiting.provider} has no space: {waiting.reason}", waiting.message)
    what = "Providers of that name" if providers else "spaces that begin so" if found else "spaces"
    known = ", ".join(providers or found or [space.embedding_version for space in spaces]) or "none"
    raise CommandError(f"there is no space {name!r}", f"{what}: {known}")


def versions_named(api: ApiClient, name: str) -> list[str]:
    """The spaces that a name stands for: one, or those in use of a Provider. Raises CommandError."""
    named = space_named(api, name)
    if "provider" not in named:
        return [named["embedding_version"]]
    spaces = read(SpacesDocument, api.get(paths.SPACES)).spaces
    in_use = [one for one in spaces if one.provider == named["provider"] and one.in_use]
    if not in_use:
        raise CommandError(f"Provider {named['provider']} has no space in use", "memory embeddings list shows them")
    return [one.embedding_version for one in in_use]


def _as_provider(name: str) -> str:
    """A backend's name, as a configuration file has it, as that of its Provider."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def _versions(spaces: tuple[SpaceDocument, ...], beginning: str) -> list[str]:
    return [one.embedding_version for one in spaces if one.embedding_version.startswith(beginning)]
