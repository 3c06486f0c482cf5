"""The API as one ASGI app."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from memory_operator.http import consent_routes, memory_routes, problems, space_routes
from memory_operator.http.auth import Authenticator
from memory_operator.http.bodies import schemas
from memory_operator.http.documents import PROBLEM_SCHEMA
from memory_operator.http.guard import Guard
from memory_operator.http.page import docs_page
from memory_operator.http.probes import probe_routes
from memory_operator.http.services import Services

TITLE = "memory-operator"


def create_app(services: Services, auth: Authenticator, version: str, *, probes: bool = False) -> FastAPI:
    """The app; with `probes`, /livez, /readyz and /metrics are on it too."""
    app = FastAPI(title=TITLE, version=version, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.services, app.state.auth = services, auth
    for router in (memory_routes.router, space_routes.router, space_routes.history, consent_routes.router):
        app.include_router(router)
    problems.install(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    if probes:
        app.router.routes.extend(probe_routes(services.not_ready))
    app.add_middleware(Guard)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, routes=app.routes, description="Memories of agents, and their spaces."
        )
        components = document.setdefault("components", {}).setdefault("schemas", {})
        components |= {**schemas(), "Problem": PROBLEM_SCHEMA}
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = document
    return app.openapi_schema
