"""All checks of one run: those of the server one after another, vendors and cluster beside them; each is bounded.

A side that does not answer is what its check says, and keeps no other check waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from memory_operator.engine.admin.doctor import server_checks, store_checks
from memory_operator.engine.admin.doctor.cluster_checks import cluster
from memory_operator.engine.admin.doctor.limits import within
from memory_operator.engine.admin.doctor.report import (
    CHECKS,
    CheckName,
    Finding,
    Repair,
    RepairKind,
    Report,
    Scope,
    ordered,
)
from memory_operator.engine.admin.doctor.store_checks import Stored
from memory_operator.engine.admin.doctor.vendor_checks import VendorCalls, declared, nobody
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.admin.start_job import Planned, plan
from memory_operator.engine.admin.switchable import SpaceView
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.ports.cluster import ClusterView
from memory_operator.errors import Conflict, InvalidInput, MemoryOperatorError, NotPermitted, StoreUnavailable
from memory_operator.store.db import activity, health
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store, terminate_after
from memory_operator.store.jobs import leases
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import hnsw, providers

STATEMENT_SECONDS = 5.0
"""How long one statement of a check may take."""

_ALL_STATEMENTS_SECONDS = 20.0
_READ_SECONDS = 10.0
_ESTIMATE_SECONDS = 10.0
_RECALL_SECONDS = 15.0
_RECALL_SAMPLE = 10
_ENOUGH_RECALL = 0.95
_POOR_RECALL = 0.85

_OF_THE_SERVER: tuple[CheckName, ...] = (
    "database", "pgvector", "migrations", "master-key", "indexes", "bloat", "disk"
)  # fmt: skip
_OF_THE_STORE: tuple[CheckName, ...] = (
    *("provider", "held", "active-space", "coverage", "orphans", "index-recall"),
    *("jobs", "leases", "pending", "quarantine"),
)
_WITHOUT_THESE = ("database", "migrations")
"""Where one of these fails, what is stored is not looked at."""

Look = Callable[[Conn], Awaitable[Sequence[Finding]]]


class Doctor:
    """Looks for what is wrong, and mends what is safe to mend. One for each event loop."""

    def __init__(
        self,
        store: Store,
        connector: Connector,
        keys: KeyRing | None,
        cluster: ClusterView | None = None,
        statement_seconds: float = STATEMENT_SECONDS,
    ) -> None:
        """Without keys the master key is not checked; without a cluster neither its clock nor its webhook."""
        self._store = store
        self._keys = keys
        self._cluster = cluster
        self._calls = VendorCalls(store, connector, knows_proofs=keys is not None)
        self._statement_seconds = statement_seconds
        self._busy = asyncio.Lock()

    async def examine(self, scope: Scope) -> Report:
        """Run every check, as far as a caller may hear of what it finds. Raises Conflict (doctor_running)."""
        if scope.is_blind:
            message = "looking needs the verb get on providers in some namespace"
            return Report([Finding(check, "not_permitted", message) for check in CHECKS])
        if self._busy.locked():
            raise Conflict("a doctor is at work in this server", code="doctor_running", hint="try again in a moment")
        async with self._busy:
            stored, of_cluster = await asyncio.gather(self._database(scope), cluster(self._cluster))
        return ordered([*stored, *of_cluster])

    async def _database(self, scope: Scope) -> list[Finding]:
        found: list[Finding] = []
        try:
            async with (
                self._store.dedicated("memory-doctor") as conn,
                terminate_after(conn, _ALL_STATEMENTS_SECONDS),
            ):
                for check, look in self._of_the_server():
                    found += await self._looked(check, conn, look)
                    if found[-1].result == "fail" and check == "database":
                        break
                else:
                    if not any(each.result == "fail" and each.check in _WITHOUT_THESE for each in found):
                        found += await self._of_the_store(conn, scope)
        except MemoryOperatorError as error:
            found.append(Finding("database", "fail", error.message, remedy=error.hint))
        there = {each.check for each in found}
        reason = "it was not looked at: see database and migrations"
        expected = (*_OF_THE_SERVER, *_OF_THE_STORE)
        return [*found, *(Finding(check, "skipped", reason) for check in expected if check not in there)]

    def _of_the_server(self) -> Sequence[tuple[CheckName, Look]]:
        async def key(conn: Conn) -> Sequence[Finding]:
            return await server_checks.master_key(conn, self._keys)

        looks: tuple[Look, ...] = (
            *(server_checks.database, server_checks.pgvector, server_checks.migrations, key),
            *(server_checks.indexes, server_checks.bloat, server_checks.disk),
        )
        return list(zip(_OF_THE_SERVER, looks, strict=True))

    async def _looked(self, check: CheckName, conn: Conn, look: Look) -> Sequence[Finding]:
        """What one check finds on the database; that it got no answer is a finding."""
        try:
            seconds = self._statement_seconds
            # A server that is stopped ends no statement, and says nothing.
            async with terminate_after(conn, 2 * seconds), health.limited(conn, seconds):
                return await look(conn)
        except NotPermitted as error:
            return [Finding(check, "not_permitted", error.message)]
        except MemoryOperatorError as error:
            return [Finding(check, "fail", error.message, remedy=error.hint or "look at the database server")]

    async def _of_the_store(self, conn: Conn, scope: Scope) -> list[Finding]:
        try:
            stored = await within(_READ_SECONDS, self._stored(scope), "doctor's read of the store")
        except MemoryOperatorError as error:
            return [Finding("active-space", "fail", error.message, remedy=error.hint)]
        of_vendors, of_store, recall, repairs = await asyncio.gather(
            self._calls.all(stored, scope), self._on(conn, stored, scope), self._recall(stored), self._repairs(stored)
        )
        found = [
            *nobody([*declared(stored), *of_vendors]),
            *store_checks.held(stored, scope),
            store_checks.active_space(stored),
            *store_checks.coverage(stored, repairs),
            *store_checks.quarantine(stored, repairs),
            *of_store,
            *recall,
        ]
        if stored.hidden:
            message = f"{stored.hidden} spaces are in namespaces that you may not look at"
            found.append(Finding("provider", "not_permitted", message))
        return store_checks.filled_in(found, store_checks.quiet(stored))

    async def _stored(self, scope: Scope) -> Stored:
        overview = await Catalog(self._store).overview()
        async with self._store.connection() as conn:
            return Stored.seen(overview, await providers.all_rows(conn), scope)

    async def _on(self, conn: Conn, stored: Stored, scope: Scope) -> list[Finding]:
        """The checks of what is stored that have statements of their own, one after another."""

        async def orphans(conn: Conn) -> Sequence[Finding]:
            return await store_checks.orphans(conn, stored, scope)

        async def space_indexes(conn: Conn) -> Sequence[Finding]:
            return await store_checks.space_indexes(conn, stored)

        async def work(conn: Conn) -> Sequence[Finding]:
            return await store_checks.work(conn, stored)

        looks: tuple[tuple[CheckName, Look], ...] = (
            ("orphans", orphans),
            ("indexes", space_indexes),
            ("jobs", work),
        )
        return [finding for check, look in looks for finding in await self._looked(check, conn, look)]

    async def _recall(self, stored: Stored) -> list[Finding]:
        """How much of the nearest the index of the active space finds, on a sample."""
        view = next((view for view in stored.views if view.figures.active), None)
        if view is None or view.space.index.kind == "none":
            return [Finding("index-recall", "ok", "queries read no index: each is exact")]
        # The largest of its segments, as far as new ones are few.
        index, version = hnsw.in_use(view.space)[0], view.space.embedding_version
        try:
            async with self._store.connection() as conn:
                if not await hnsw.vectors_to_index(conn, view.space.id) or not await hnsw.are_valid(conn, index):
                    return [Finding("index-recall", "ok", "there is no index yet: each query is exact", version)]
            measured = hnsw.recall(self._store, index, _RECALL_SAMPLE)
            share = await within(_RECALL_SECONDS, measured, "doctor's recall of an index")
        except MemoryOperatorError as error:
            return [Finding("index-recall", "skipped", f"it was not measured: {error.message}", version)]
        message = f"the index finds {share:.1%} of the ten nearest, on {_RECALL_SAMPLE} stored vectors"
        if share >= _ENOUGH_RECALL:
            return [Finding("index-recall", "ok", message, version)]
        remedy = f'as the owner of the tables: psql -c "REINDEX INDEX CONCURRENTLY {index.name}"'
        return [Finding("index-recall", "fail" if share < _POOR_RECALL else "warn", message, version, remedy)]

    async def _repairs(self, stored: Stored) -> dict[int, Repair]:
        """What it takes to fill each space that lacks vectors, and has no job."""
        found = {}
        for view in stored.filled:
            lacks = view.coverage < 1 or view.figures.quarantined
            if not lacks or stored.open_job(view) is not None or not view.space.create_enabled:
                continue
            try:
                estimate = (await within(_ESTIMATE_SECONDS, self._planned(view), "doctor's estimate")).estimate
            except StoreUnavailable:
                break  # what has no price is not offered
            if estimate is not None:
                version, tokens = view.space.embedding_version, estimate.counted.tokens
                found[view.space.id] = Repair("reembed", version, tokens, estimate.cost)
        return found

    async def _planned(self, view: SpaceView) -> Planned:
        async with self._store.connection() as conn:
            return await plan(conn, view.space, None, "missing")

    async def repair(self, kind: RepairKind, subject: str, by: Actor) -> int:
        """Mend something that costs nothing; how many things were.

        Raises InvalidInput (it costs something), NotPermitted, StoreUnavailable.
        """
        if kind == "reembed":
            raise InvalidInput("reembed is asked for by POST /v1/reembed, which says what it costs")
        async with (
            self._store.dedicated("memory-doctor") as conn,
            health.limited(conn, _ALL_STATEMENTS_SECONDS),
        ):
            if kind == "release-leases":
                mended = await leases.release_expired(conn)
            else:
                mended = int(await health.drop_invalid_index(conn, subject))
        if mended:
            async with self._store.connection() as conn:
                await activity.record(conn, by, "repaired", subject or kind, repair=kind, count=mended)
        return mended
