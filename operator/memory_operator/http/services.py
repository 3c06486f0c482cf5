"""What the routes call."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.engine.admin.consents import Consents
from memory_operator.engine.admin.doctor.examine import Doctor
from memory_operator.engine.admin.jobs import Jobs
from memory_operator.engine.admin.projects import Projects
from memory_operator.engine.admin.rehearsals import Rehearsals
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.admin.usage import Accounts
from memory_operator.engine.memories.compare import Comparer
from memory_operator.engine.memories.recall import Recall
from memory_operator.engine.memories.remember import Remember
from memory_operator.errors import MemoryOperatorError
from memory_operator.store.db.migrate import check_schema
from memory_operator.store.db.pool import Store


@dataclass(frozen=True, slots=True)
class Services:
    """The engine's services, of the API's event loop."""

    store: Store
    remember: Remember
    recall: Recall
    catalog: Catalog
    consents: Consents
    jobs: Jobs
    accounts: Accounts
    projects: Projects
    doctor: Doctor
    comparer: Comparer
    rehearsals: Rehearsals

    async def not_ready(self) -> str | None:
        """Why the API cannot answer, for a /readyz; None when it can."""
        try:
            async with self.store.connection() as conn:
                await check_schema(conn)
        except MemoryOperatorError as error:
            return f"memory: {error.message}"
        return None
