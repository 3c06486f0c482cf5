"""Projects: the language of their words, and what spaces have of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from memory_operator.http.auth.base import READ, READ_MEMORIES, WRITE_MEMORIES, Identity
from memory_operator.http.auth.permissions import actor, may, permitted, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.base import Name
from memory_operator.http.schemas.projects import (
    LanguageBody,
    ProjectsAnswer,
    ProjectStatsAnswer,
    ProjectWordsAnswer,
)
from memory_operator.http.schemas.reading import read

router = APIRouter(prefix="/v1/projects", tags=["memories"])


@router.get("", responses=responses(ProjectsAnswer))
async def listed(request: Request, identity: Annotated[Identity, Depends(permitted(READ_MEMORIES))]) -> Response:
    """The projects of the caller's tenant, and the language of their words."""
    found = await services_of(request).remember.projects(identity.tenant)
    return reply(ProjectsAnswer(projects=[ProjectWordsAnswer.model_validate(one) for one in found]))


@router.get("/stats", responses=responses(ProjectStatsAnswer, 200, 404))
async def stats(
    request: Request,
    identity: Annotated[Identity, Depends(permitted(READ_MEMORIES))],
    project: Annotated[Name, Query(description="Its name.")],
) -> Response:
    """How many memories and chunks a project of the caller's tenant has, and what each space has of it."""
    services = services_of(request)
    there = await services.catalog.namespaces()
    visible = frozenset([namespace for namespace in there if await may(request, identity, READ, namespace)])
    return reply(ProjectStatsAnswer.of(await services.projects.view(identity.tenant, project, visible)))


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
