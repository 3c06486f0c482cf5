"""A judged set in a project of its own: loaded, waited for, removed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from memory_operator.client.bulk.bulk_add import Account, BulkAdd
from memory_operator.client.bulk.lines import Row
from memory_operator.client.errors import CommandError, RefusedError
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.memory_ids import pages
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import SpacesDocument
from memory_operator.client.views.polling import Polling

DOCUMENT_KEY = "judged_document"
"""The metadata that says which document a memory is."""

Tell = Callable[[int], None]
"""Told how many are done."""


def load(api: ApiClient, documents: Mapping[str, str], project: str, in_flight: int, tell: Tell) -> dict[str, str]:
    """Store the documents that have a text; the document of each memory's id. Raises CommandError."""
    account = Account(keep_answers=True)
    names = [name for name, text in documents.items() if text.strip()]
    rows = (
        Row(line, {"text": documents[name], "metadata": {DOCUMENT_KEY: name}}) for line, name in enumerate(names, 1)
    )
    bulk = BulkAdd(api, {"project": project}, in_flight=in_flight, account=account)
    bulk.send(rows, lambda: tell(account.stored))
    if account.interrupted:
        raise KeyboardInterrupt
    if account.stopped_by is not None:
        raise account.stopped_by
    faults = [*account.refused, *account.failed, *account.unknown]
    if faults:
        fault = min(faults, key=lambda one: one.line)
        raise CommandError(f"document {names[fault.line - 1]!r} was not stored: {fault.detail}")
    return {str(answer["id"]): names[int(answer["line"]) - 1] for answer in account.answers}


def kept(api: ApiClient, project: str) -> dict[str, str]:
    """The document of each memory of a project that an earlier evaluation kept; of other memories their ids."""
    return {
        str(memory["id"]): str((memory.get("metadata") or {}).get(DOCUMENT_KEY) or memory["id"])
        for page in pages(api, project)
        for memory in page
    }


def wait_for_vectors(api: ApiClient, versions: list[str], seconds: float, tell: Tell) -> int:
    """Wait until these spaces lack nothing that was stored; how many chunks lack a vector when the time is up."""
    polling = Polling(seconds)
    while True:
        found = polling.look(lambda: read(SpacesDocument, api.get(paths.SPACES)))
        waiting = [
            max(one.pending, one.chunks - one.vectors - one.quarantined)
            for one in (found.spaces if found else ())
            if one.embedding_version in versions
        ]
        if found is not None and (not any(waiting) or polling.is_over):
            return sum(waiting)
        tell(sum(waiting))
        polling.sleep()


def remove(api: ApiClient, project: str, in_flight: int, tell: Tell) -> int:
    """Erase all memories of a project for good; how many could not be. Raises CommandError."""
    names = [str(memory["id"]) for page in pages(api, project) for memory in page]
    with ThreadPoolExecutor(in_flight, thread_name_prefix="memory-eval") as pool:
        failed = 0
        for done, erased in enumerate(pool.map(functools.partial(_erase, api), names), 1):
            failed += not erased
            tell(done)
    return failed


def _erase(api: ApiClient, memory_id: str) -> bool:
    for _ in range(2):
        try:
            api.delete(paths.memory(memory_id), purge="true")
        except CommandError as failure:
            if isinstance(failure, RefusedError) and failure.status == 404:
                return True
            continue
        return True
    return False
