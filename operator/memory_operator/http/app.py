"""The API as one ASGI app."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from memory_operator.http import problems
from memory_operator.http.auth.base import Authenticator
from memory_operator.http.auth.permissions import known_parameters
from memory_operator.http.openapi.document import openapi
from memory_operator.http.openapi.page import CONTENT_SECURITY, docs_page, index_page
from memory_operator.http.routers import (
    activity,
    comparisons,
    consent,
    doctor,
    jobs,
    memories,
    projects,
    quarantine,
    spaces,
    usage,
)
from memory_operator.http.server.admission import Slots
from memory_operator.http.server.middleware import Guard
from memory_operator.http.server.probes import PROBE_PATHS, probe_routes
from memory_operator.http.services import Services
from memory_operator.metrics import Metrics

TITLE = "memory-operator"


class _MemoryApi(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi(self)
        return self.openapi_schema


def create_app(
    services: Services,
    auth: Authenticator,
    version: str,
    *,
    probes: bool = False,
    metrics: Metrics | None = None,
    slots: Slots | None = None,
) -> FastAPI:
    """The app; with `probes`, /livez, /readyz and /metrics are on it too."""
    app = _MemoryApi(title=TITLE, version=version, docs_url=None, redoc_url=None, redirect_slashes=False)
    metrics = metrics or Metrics()
    app.state.services, app.state.auth = services, auth
    parts = (memories, projects, spaces, comparisons, quarantine, jobs, usage, consent, activity, doctor)
    for router in (*(part.router for part in parts), memories.lists):
        app.include_router(router, dependencies=[Depends(known_parameters)])
    problems.install(app)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        """Where to go from here, for a browser or a program."""
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(index_page(TITLE, version), headers={"Content-Security-Policy": CONTENT_SECURITY})
        return JSONResponse({"name": TITLE, "version": version, "docs": "/docs", "openapi": "/openapi.json"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers={"Content-Security-Policy": CONTENT_SECURITY})

    if probes:
        app.router.routes.extend(probe_routes(services.not_ready, metrics))
    app.add_middleware(
        Guard,
        screen=auth.screen,
        metrics=metrics,
        slots=slots,
        always_answered=PROBE_PATHS if probes else (),
    )
    return app
