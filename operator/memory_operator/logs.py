"""Logs: plain text for people, JSON for machines; one place that sets them up, for the webhook too."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

EXTRA_FIELDS = ("provider", "job", "request_id", "trace_id", "span_id")
"""Fields that a record may carry beside its message (`log.info(…, extra={"provider": …})`)."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id")
"""Id of the HTTP request that is being answered; whatever is logged meanwhile carries it."""

_NOISY = (
    "httpx",
    "httpcore",
    "uvicorn",
    "asyncio",
    "kopf.objects",
    "kubernetes",
    "aiohttp.access",
    "urllib3",
)


def get_logger(name: str) -> logging.Logger:
    """The logger of one of our modules."""
    return logging.getLogger(name)


def set_up_logs(log_format: LogFormat = "text", level: int = logging.INFO) -> None:
    """Send all records to stderr. Called once, by a process's main function."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # They log each request, or each event of each object: noise for our users, and URLs that are not ours to print.
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its pool logs a traceback at each try to reach a database that is away; we say so ourselves, in one line.
    logging.getLogger("asyncpg").setLevel(logging.ERROR)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO message`; a message that starts with a sign of ours stays greppable as it is."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line, with the traceback below it where there is one."""
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"{stamp} {record.levelname} {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields of EXTRA_FIELDS that are there."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line of JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get(None):
            entry["request_id"] = request_id
        entry.update({name: getattr(record, name) for name in EXTRA_FIELDS if hasattr(record, name)})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
