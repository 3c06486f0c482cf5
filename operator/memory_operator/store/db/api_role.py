"""The database role of the API: it reads and writes rows of our tables, and can change no table, index or view.

The migration gives it what it may. Tables that are made later, for new spaces, have it by default privileges.
"""

from __future__ import annotations

import asyncpg

from memory_operator.errors import ConfigurationError, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Conn

log = get_logger(__name__)

_ROLE = """
select r.rolsuper or pg_has_role($1::name, current_user, 'member') as owner,
  has_schema_privilege($1::name, current_schema(), 'create') as creates, current_schema() as schema
from pg_roles r where r.rolname = $1::name
"""

_TO_GRANT = """
with tables as (
  select c.oid, c.oid::regclass as name, privilege from pg_class c
  cross join unnest(array['select', 'insert', 'update', 'delete']) as privilege
  where c.relnamespace = current_schema()::regnamespace and c.relname like 'memory\\_%' and c.relkind in ('r', 'v')
  and (privilege = 'select' or (c.relkind = 'r' and c.relname <> 'memory_schema_migrations')))
select format('grant usage on schema %I to %I', current_schema(), $1::name) as statement
  where not has_schema_privilege($1::name, current_schema(), 'usage')
union all select format('alter default privileges in schema %I grant select, insert, update, delete on tables to %I',
  current_schema(), $1::name)
  where not exists (select from pg_default_acl d, aclexplode(d.defaclacl) a where d.defaclobjtype = 'r'
  and d.defaclnamespace = current_schema()::regnamespace and d.defaclrole = current_user::regrole
  and a.grantee = (select oid from pg_roles where rolname = $1::name))
union all select format('grant %s on %s to %I', string_agg(privilege, ', '), name, $1::name) from tables
  where not has_table_privilege($1::name, oid, privilege) group by name
union all select format(statement, function, $1::name)
  from unnest(array['memory_show_active()', 'memory_drop_vectors(bigint)']) as function,
  (values ('revoke execute on function %s from public'), ('grant execute on function %s to %I')) as s (statement)
  where has_function_privilege('public', function, 'execute')
  or not has_function_privilege($1::name, function, 'execute')
union all select format('grant execute on function %s to %I', oid::regprocedure, $1::name) from pg_proc
  where pronamespace = current_schema()::regnamespace and proname in ('memory_find_by_words', 'memory_scoped_tags')
  and not has_function_privilege($1::name, oid, 'execute')
"""

_LOCK = """lock table memory_registry in exclusive mode"""


async def grant(conn: Conn, role: str) -> None:
    """Give the role what it lacks. In a transaction, which locks the registry: no table of a space is made meanwhile.

    Raises StoreUnavailable (no such role yet), ConfigurationError (it owns the tables, or the grants are refused).
    """
    found = await conn.fetchrow(_ROLE, role)
    if found is None:
        raise StoreUnavailable(
            f"the database has no role {role} for the API",
            hint=f"an administrator runs once: CREATE ROLE {role} LOGIN PASSWORD '…';",
        )
    if found["owner"]:
        raise ConfigurationError(
            f"the role {role} for the API may do all that this database user may",
            hint="give the API a role of its own, which is no superuser and no member of this one",
        )
    if found["creates"]:
        log.warning(
            "the role %s for the API may create objects in schema %s; run: REVOKE CREATE ON SCHEMA %s FROM PUBLIC;",
            *(role, found["schema"], found["schema"]),
        )
    if not await conn.fetch(_TO_GRANT, role):
        return
    await conn.execute(_LOCK)
    try:
        for row in await conn.fetch(_TO_GRANT, role):
            await conn.execute(row["statement"])
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"this database user may not give the role {role} what the API needs: {error.args[0]}",
            hint="run migrate as the owner of the database, or grant it as an administrator",
        ) from error
