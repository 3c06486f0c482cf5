"""What a sweep takes, said before it begins: what there is, the target, its price, and what cannot be undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memory_operator.client.errors import RefusedError, UnreachableError
from memory_operator.client.server.begun import BegunDocument, EstimateDocument, PlannedDocument
from memory_operator.client.server.reading import read
from memory_operator.client.session import Session
from memory_operator.client.terminal.format import duration, number, price

PAID = "what is embedded is paid for, whatever comes after it"
REPLACED = "a vector is gone once its new one is stored, and what is embedded is paid for"
SWAPPED = "the old vectors go once all new ones are there; a cancel leaves them"


def preflight(session: Session, path: str, request: dict[str, Any]) -> Any:
    """What the server says that a request would do; None where it cannot say so in time. Raises CommandError.

    It is shown on stderr: in words, with --json as one document on a line.
    """
    try:
        document = session.api.post(path, {**request, "dry_run": True})
    except (UnreachableError, RefusedError) as failure:
        if not (isinstance(failure, UnreachableError) and failure.sent):
            raise
        session.screen.remark(f"! what this takes could not be told in time: {failure.detail}", "yellow")
        return None
    if session.screen.as_json:
        session.screen.json_remark({"preflight": document})
    else:
        for line in lines_of(read(BegunDocument, document), request):
            session.screen.remark(line)
    return document


def lines_of(planned: BegunDocument, request: dict[str, Any]) -> Iterator[str]:
    """A sweep in words, a line at a time."""
    if planned.stored is not None:
        there, where = planned.stored, request.get("project")
        dimensions = ", ".join(str(each) for each in there.dimensions) or "none yet"
        yield f"in {f'project {where}' if where else 'the store'}: {_amounts(there.chunks, there.memories)}"
        yield f"stored vectors have dimensions: {dimensions}"
    for space in planned.spaces:
        yield from _of_space(space)
    yield "what cannot be undone:"
    yield f"  {_irreversible(request)}"


def _amounts(chunks: int, memories: int) -> str:
    return f"{number(chunks)} live chunks of {number(memories)} memories"


def _of_space(space: PlannedDocument) -> Iterator[str]:
    yield f"{space.embedding_version} of {space.provider}:"
    yield f"  model {space.model or '–'}, {number(space.dimensions)} dimensions"
    yield f"  {'remote: texts go to its vendor' if space.remote else 'local: no text leaves'}"
    if space.estimate is not None:
        yield from (f"  {line}" for line in _of_estimate(space, space.estimate))
    if space.last_error:
        yield f"  ! its embedder gives no vectors now: {space.last_error}"


def _of_estimate(space: PlannedDocument, estimate: EstimateDocument) -> Iterator[str]:
    parts = [f"{number(estimate.to_embed)} texts to embed", f"{number(estimate.copied)} chunks copied"]
    parts.append(f"{number(estimate.already_there)} kept")
    more = {"too large": estimate.too_large, "tried again": space.retried, "pending": estimate.pending}
    parts += [f"{number(count)} {what}" for what, count in more.items() if count]
    yield ", ".join(parts)
    known = price(estimate.estimated_cost, estimate.currency)
    nothing = "an unknown price" if space.remote else "no vendor to pay"
    cost = nothing if estimate.estimated_cost is None else known
    seconds = estimate.estimated_seconds
    time = "an unknown time" if seconds is None else duration(seconds)
    yield f"about {number(estimate.estimated_tokens)} tokens, {cost}, {time}"


def _irreversible(request: dict[str, Any]) -> str:
    if not request.get("replace"):
        return PAID
    return REPLACED if request.get("project") or request.get("max_rows") else SWAPPED
