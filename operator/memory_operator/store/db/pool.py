"""Connections: how they are opened, what they are prepared for, and how their failures are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import Pool, PoolConnectionProxy
from pgvector.asyncpg import register_vector

from memory_operator.errors import ConfigurationError, LockBusy, SpaceVanished, StoreUnavailable
from memory_operator.metrics import Metrics
from memory_operator.store.db import moments
from memory_operator.store.db.address import DatabaseAddress
from memory_operator.turns import Turns, few

Conn: TypeAlias = asyncpg.Connection | PoolConnectionProxy
"""A connection in use: one of the pool's, or one that was opened for itself."""
Row: TypeAlias = asyncpg.Record

TENANT: ContextVar[str] = ContextVar("tenant", default="")
"""For which tenant this process works, where it is known: those that wait for connections have them in turns."""
CALLER: ContextVar[str] = ContextVar("caller", default="")
"""For whom of them; callers of one tenant have its connections in turns."""

_SEARCHES = 2
"""Statements that one query has under way at a time."""
ACQUIRE_SECONDS = 10.0
STATEMENT_SECONDS = 60.0
LOCK_TIMEOUT_MS = 5_000
_CLOSE_SECONDS = 2.0
"""A server that is asked to end a session and does not answer is left alone."""
_CUSTOM_PLANS = "set plan_cache_mode = force_custom_plan"
"""A generic plan of a filtered vector search finds nothing in small projects. Not a parameter of the connection's
start, since poolers in session mode refuse those that they do not know."""

EF_SEARCH = 100
"""Candidates that a vector index keeps: recall@10 is 0.999 there on 50,000 vectors of 768 dimensions, 0.96 at 40."""

END_IDLE_TRANSACTIONS = "set idle_in_transaction_session_timeout = '15s'"
"""The server ends a session that says nothing for so long inside a transaction.

None of ours waits there for anything but the database: its process is stopped, or its network is gone, and its leases
run out after as long. Its snapshot would keep all index builds waiting, its locks whoever wants them.
"""
_END_LONG_TRANSACTIONS = "set transaction_timeout = '300s'"
"""The same in the middle of a COPY or of a reply: five times what one statement may take. Not for index builds."""
_KNOWS_TRANSACTION_TIMEOUT = 17

_UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.InternalClientError,  # a server that was killed is heard of in the middle of a statement's protocol
    TimeoutError,
)
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


@asynccontextmanager
async def translate_errors() -> AsyncIterator[None]:
    """Turn the driver's errors into ours: StoreUnavailable or LockBusy. All others pass unchanged.

    A task that is cancelled meanwhile ends with CancelledError, also where the roll-back fails that this brings about:
    with its error alone a loop that goes on after errors would go on, and never stop.
    """
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        yield
    except Exception as error:
        if task and task.cancelling() > cancellations:
            raise asyncio.CancelledError from error
        if ours := _translated(error):
            raise ours from error
        raise


def _translated(error: Exception) -> Exception | None:
    if isinstance(error, _BUSY):
        return LockBusy(f"another session holds a lock that is needed ({type(error).__name__})")
    if _tells_of_a_discarded_space(error):
        return SpaceVanished()
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ConfigurationError("the database URL cannot be used", hint="its options are those of libpq")
    if isinstance(error, _UNREACHABLE):
        return StoreUnavailable(
            f"the database cannot be used at the moment ({type(error).__name__})",
            hint="look at the database server; this goes on by itself when it is back",
        )
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return StoreUnavailable("the database server has no such database", hint="check the database URL")
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return StoreUnavailable("the database server refuses the login", hint="check the database URL")
    return None


def _tells_of_a_discarded_space(error: Exception) -> bool:
    if isinstance(error, asyncpg.InternalServerError):
        # A statement that was prepared before finds its table gone at another place.
        return "could not open relation" in str(error)
    if isinstance(error, asyncpg.ForeignKeyViolationError):
        return (error.constraint_name or "").endswith("_space_id_fkey")
    return isinstance(error, asyncpg.UndefinedTableError)


async def fetch_one(conn: Conn, statement: str, *values: object) -> Row:
    """The row of a statement that always has one."""
    row = await conn.fetchrow(statement, *values)
    assert row is not None
    return row


def transaction_limits(conn: Conn) -> str:
    """Statements that set how long transactions of a session may last."""
    known = conn.get_server_version().major >= _KNOWS_TRANSACTION_TIMEOUT
    return f"{END_IDLE_TRANSACTIONS}; {_END_LONG_TRANSACTIONS}" if known else END_IDLE_TRANSACTIONS


_SET_LOCK_TIMEOUT = """select set_config('lock_timeout', $1, true)"""


async def limit_lock_waits(conn: Conn, milliseconds: int = LOCK_TIMEOUT_MS) -> None:
    """Let the statements of this transaction wait so long for a lock."""
    await conn.execute(_SET_LOCK_TIMEOUT, f"{milliseconds}ms")


_BEGUN_WITH = {"hnsw.ef_search": str(EF_SEARCH)}
_UNKNOWN = ""


class _Session(asyncpg.Connection):
    """A connection of the pool, which knows the settings that its session was told."""

    __slots__ = ("told",)

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__(*values, **options)
        self.told: dict[str, str] = dict(_BEGUN_WITH)


_TELL = """select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s (name, value)"""


def _told(conn: Any) -> dict[str, str]:
    """What a session was told; a connection that was lost has none, since the driver takes it away at once."""
    told: dict[str, str] | None = getattr(conn, "told", None)
    if told is None:
        raise asyncpg.ConnectionDoesNotExistError("the session was lost")
    return told


async def _tell(conn: Conn, told: dict[str, str], settings: Mapping[str, str]) -> None:
    """Have a session run with these settings; others that it was told before are as they were when it began.

    Costs nothing where it was told just these: that is why no connection is reset when it goes back to the pool.
    """
    wanted = {**_BEGUN_WITH, **settings}
    differ = {name: wanted.get(name) for name in {*told, *wanted} if told.get(name) != wanted.get(name)}
    if differ:
        told.update(dict.fromkeys(differ, _UNKNOWN))
        await conn.execute(_TELL, list(differ), list(differ.values()))
        told.clear()
        told.update(wanted)


def _doubt(told: dict[str, str]) -> None:
    """Take nothing for known of a session in which something failed or was cancelled."""
    told.update(dict.fromkeys(told, _UNKNOWN))


class Store:
    """The database of one process's event loop. Open it with `open_store`, close it with `async with`."""

    def __init__(self, pool: Pool, address: DatabaseAddress, metrics: Metrics) -> None:
        self._pool = pool
        self._turns = Turns(self.pool_size, at_work_beside=_SEARCHES * few(self.pool_size))
        self._address = address
        self.metrics = metrics
        """What the process counts; here, since everything that counts has its store."""

    @property
    def pool_size(self) -> int:
        """Connections that the pool has at most."""
        return int(self._pool.get_max_size())

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.wait_for(self._pool.close(), ACQUIRE_SECONDS)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self, settings: Mapping[str, str] | None = None) -> AsyncIterator[Conn]:
        """A pooled connection, its session with these settings; statements commit one by one.

        Nothing else may change what a session is like for whoever has it next: session locks, LISTEN and all that
        stays need one of `dedicated`. Raises StoreUnavailable, LockBusy.
        """
        async with translate_errors(), self._turn(), self._pool.acquire(timeout=ACQUIRE_SECONDS) as conn:
            told = _told(conn)
            await _tell(conn, told, settings or {})
            try:
                yield conn
            except BaseException:
                _doubt(told)
                raise

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of as many turns as there are connections; the pool itself serves who came first, whoever that is."""
        async with asyncio.timeout(ACQUIRE_SECONDS):
            turn = await self._turns.take(TENANT.get(), CALLER.get())
        try:
            yield
        finally:
            self._turns.give_back(turn)

    @asynccontextmanager
    async def transaction(self, *, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> AsyncIterator[Conn]:
        """A transaction. Never hold one over a network call. Raises StoreUnavailable, LockBusy."""
        async with self.connection() as conn, conn.transaction():
            await limit_lock_waits(conn, lock_timeout_ms)
            yield conn

    @asynccontextmanager
    async def begun(self, first: str, *, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> AsyncIterator[Conn]:
        """A transaction whose first statements, which take no values, are sent together with its begin.

        It has no savepoints: the driver does not know that it is there. Raises StoreUnavailable, LockBusy.
        """
        async with self.connection() as conn:
            try:
                await conn.execute(f"begin; set local lock_timeout = {int(lock_timeout_ms)}; {first}")
                yield conn
                await conn.execute("commit")
            except BaseException:
                await conn.execute("rollback")
                raise

    @asynccontextmanager
    async def dedicated(self, application: str) -> AsyncIterator[Conn]:
        """A connection of its own, for LISTEN, session locks and CREATE INDEX CONCURRENTLY."""
        async with translate_errors():
            conn = await self._address.connect(
                timeout=ACQUIRE_SECONDS, server_settings={"application_name": application}
            )
            try:
                yield conn
            finally:
                try:
                    await conn.close(timeout=_CLOSE_SECONDS)
                except (TimeoutError, *_UNREACHABLE):
                    conn.terminate()


@asynccontextmanager
async def terminate_after(conn: Conn, seconds: float) -> AsyncIterator[None]:
    """Cut a connection off that is still at work after so long: a network that went silent says nothing else.

    A time limit on its statements would not do, as the roll-back after it waits for the same silence.
    """
    timer = asyncio.get_running_loop().call_later(seconds, conn.terminate)
    try:
        yield
    finally:
        timer.cancel()


async def open_store(
    database: str | DatabaseAddress, *, application: str, max_size: int = 8, metrics: Metrics | None = None
) -> Store:
    """Open a pool on a migrated database. Raises StoreUnavailable, ConfigurationError (transaction pooling)."""
    address = DatabaseAddress(database) if isinstance(database, str) else database
    async with translate_errors():
        address.check()
        async with _single(address, application) as conn, _single(address, application) as other:
            await refuse_transaction_pooling(conn, other)
            schema = await vector_schema(conn)
        if schema is None:
            raise ConfigurationError(
                "the database has no vector extension", hint="run: memory-operator migrate --database-url …"
            )

        async def prepare(conn: asyncpg.Connection) -> None:
            await register_vector(conn, schema=schema)
            await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
            await conn.set_type_codec(
                "timestamptz", schema="pg_catalog", encoder=moments.encoded, decoder=moments.decoded, format="tuple"
            )
            await conn.execute(f"{_CUSTOM_PLANS}; {transaction_limits(conn)}; {_SET_SEARCHES}")

        pool = await asyncpg.create_pool(
            connect=address.connect,
            min_size=1,
            max_size=max_size,
            init=prepare,
            reset=_as_it_is,
            connection_class=_Session,
            timeout=ACQUIRE_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            max_inactive_connection_lifetime=300,
            server_settings={"application_name": application},
        )
    return Store(pool, address, metrics or Metrics())


# The literal loads the extension's library, and with it the settings; pgvector 0.7 lacks the second.
_SET_SEARCHES = f"""
select '[0]'::vector is null, set_config('hnsw.ef_search', '{EF_SEARCH}', false),
case when current_setting('hnsw.iterative_scan', true) is not null
  then set_config('hnsw.iterative_scan', 'relaxed_order', false) end
"""


async def _as_it_is(conn: Any) -> None:
    """Leave what a session was told, which is looked at when it is taken again; end what an error may have left open.

    The driver rolls back the transactions that it knows of. It does not know of one that began while its statement was
    cancelled: whoever had the session next would have worked in it, and lost what they wrote.
    """
    if _UNKNOWN in _told(conn).values():
        await conn.execute("rollback")


@asynccontextmanager
async def _single(address: DatabaseAddress, application: str) -> AsyncIterator[Conn]:
    conn = await address.connect(timeout=ACQUIRE_SECONDS, server_settings={"application_name": application})
    try:
        yield conn
    finally:
        await conn.close(timeout=5)


_MARK_SESSION = """set statement_timeout = '59999ms'"""

_PING = """select 1"""

_READ_MARK = """show statement_timeout"""


async def refuse_transaction_pooling(conn: Conn, other: Conn) -> None:
    """LISTEN and session locks need a session of their own: what one sets must still be set when another is busy.

    A pooler in transaction mode lends the server's process to whoever has a transaction, and forgets whose it was.
    """
    await conn.execute(_MARK_SESSION)
    async with other.transaction():
        await other.execute(_PING)
        kept = await conn.fetchval(_READ_MARK)
    if kept != "59999ms":
        raise ConfigurationError(
            "the database URL leads to a pooler in transaction mode",
            hint="use the server's own address, or a pooler in session mode",
        )


_VECTOR_SCHEMA = """
select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'
"""


async def vector_schema(conn: Conn) -> str | None:
    """Schema that holds the vector extension; None when it is not installed."""
    name = await conn.fetchval(_VECTOR_SCHEMA)
    return None if name is None else str(name)
