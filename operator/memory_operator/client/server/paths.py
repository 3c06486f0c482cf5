"""Where the memory API answers what."""

from __future__ import annotations

from urllib.parse import quote

from memory_operator.client.errors import MisuseError

MEMORIES = "/v1/memories"
ADD = "/memory/add"
QUERY = "/memory/query"
SPACES = "/v1/embeddings/spaces"
STATUS = "/v1/embeddings/status"
ACTIVATE = "/v1/embeddings/activate"
DEACTIVATE = "/v1/embeddings/deactivate"
CREATE_ENABLED = "/v1/embeddings/create-enabled"
QUARANTINE = "/v1/embeddings/quarantine"
RETRY = f"{QUARANTINE}/retry"
COMPARE = "/v1/embeddings/compare"
REHEARSALS = "/v1/embeddings/rehearsals"
PRUNE = "/v1/prune-embeddings"
REEMBED = "/v1/reembed"
REINDEX = "/v1/reindex"
JOBS = "/v1/jobs"
USAGE = "/v1/usage"
STATS = "/v1/stats"
PROJECTS = "/v1/projects"
PROJECT_STATS = f"{PROJECTS}/stats"
PROJECT_LANGUAGE = f"{PROJECTS}/language"
DOCTOR = "/v1/doctor"
DOCTOR_REPAIR = f"{DOCTOR}/repair"
ACTIVITY = "/activity"
CONSENT = "/admin/embedding-dimension-change"


def memory(memory_id: str, rest: str = "") -> str:
    """One memory. Raises MisuseError for an empty id, which would name another route."""
    if not memory_id.strip():
        raise MisuseError("the id is empty")
    return f"/memory/{quote(memory_id, safe='')}{rest}"


def job(number: int, verb: str = "") -> str:
    """One job, or what is to be done with it."""
    return f"{JOBS}/{number}{f'/{verb}' if verb else ''}"


def rehearsal(number: int, verb: str = "") -> str:
    """One rehearsal, or what is to be done with it."""
    return f"{REHEARSALS}/{number}{f'/{verb}' if verb else ''}"


def consent(marker_id: int) -> str:
    """One recorded consent."""
    return f"{CONSENT}/{marker_id}"
