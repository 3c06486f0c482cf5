"""AdmissionReview v1 in, AdmissionReview v1 out. The answer is always that the change is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memory_operator.contract.warnings import warnings_for

_API_VERSION = "admission.k8s.io/v1"


class NotAReviewError(ValueError):
    """The body is no AdmissionReview."""


@dataclass(frozen=True, slots=True)
class Request:
    """The part of an AdmissionReview that warnings need."""

    uid: str
    operation: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None


def read_request(body: bytes) -> Request:
    """The request in an AdmissionReview. Raises NotAReviewError."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAReviewError("the body is not JSON") from error
    request = review.get("request") if isinstance(review, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise NotAReviewError("the body is JSON, but no AdmissionReview with a request and its uid")
    return Request(
        uid=request["uid"],
        operation=str(request.get("operation")),
        old=_object(request.get("oldObject")),
        new=_object(request.get("object")),
    )


def warnings_of(request: Request) -> list[str]:
    """What to tell the person who makes this change."""
    if request.new is None or request.operation not in ("CREATE", "UPDATE"):
        return []
    metadata = request.new.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("deletionTimestamp"):
        return []  # finalizers of others being taken off: nobody reads these answers
    old = request.old if request.operation == "UPDATE" else None
    return warnings_for(old, request.new)


def answer(uid: str, warnings: list[str]) -> bytes:
    """The AdmissionReview to send back: allowed, with warnings. `uid` is "" when the request could not be read."""
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if warnings:
        response["warnings"] = warnings
    review = {"apiVersion": _API_VERSION, "kind": "AdmissionReview", "response": response}
    return json.dumps(review, separators=(",", ":")).encode()


def _object(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None
