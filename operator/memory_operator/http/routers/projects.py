"""Projects: the language of their words."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from memory_operator.http.auth.base import READ_MEMORIES, WRITE_MEMORIES, Identity
from memory_operator.http.auth.permissions import actor, permitted, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.projects import LanguageBody, ProjectsAnswer, ProjectWordsAnswer
from memory_operator.http.schemas.reading import read

router = APIRouter(prefix="/v1/projects", tags=["memories"])


@router.get("", responses=responses(ProjectsAnswer))
async def listed(request: Request, identity: Annotated[Identity, Depends(permitted(READ_MEMORIES))]) -> Response:
    """The projects of the caller's tenant, and the language of their words."""
    found = await services_of(request).remember.projects(identity.tenant)
    return reply(ProjectsAnswer(projects=[ProjectWordsAnswer.model_validate(one) for one in found]))


@router.post("/language", responses=responses(ProjectWordsAnswer), openapi_extra=request_body(LanguageBody))
async def set_language(
    request: Request,
    identity: Annotated[Identity, Depends(permitted(WRITE_MEMORIES))],
    body: Annotated[LanguageBody, Depends(read(LanguageBody))],
) -> Response:
    """Set the language of a project's words; workers then index its memories anew, in place, without a call."""
    by = actor(request, identity)
    found = await services_of(request).remember.set_language(identity.tenant, body.project, body.language, by)
    return reply(ProjectWordsAnswer.model_validate(found))
