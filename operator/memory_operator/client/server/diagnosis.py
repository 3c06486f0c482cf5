"""What the server's doctor says."""

from __future__ import annotations

from datetime import datetime

from memory_operator.client.server.reading import AnswerDocument


class RepairDocument(AnswerDocument):
    """What would mend a fault, and what it costs."""

    kind: str
    subject: str = ""
    tokens: int = 0
    cost: str | None = None
    currency: str = "USD"


class FindingDocument(AnswerDocument):
    """What one check says of one thing."""

    check: str
    result: str
    message: str
    subject: str = ""
    remedy: str = ""
    repair: RepairDocument | None = None


class DoctorDocument(AnswerDocument):
    """POST /v1/doctor."""

    verdict: str
    at: datetime
    checks: tuple[FindingDocument, ...]
