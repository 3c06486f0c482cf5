"""Models of OpenAI on Azure, `POST {endpoint}/openai/deployments/{deployment}/embeddings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit

from memory_operator.contract.known_models import AZURE as PLATFORM
from memory_operator.contract.known_models import WORKLOAD_IDENTITY
from memory_operator.embedders.base import Embedder
from memory_operator.embedders.http.endpoint import Endpoint, endpoint
from memory_operator.embedders.http.status_errors import refusal
from memory_operator.embedders.http.transport import Reply
from memory_operator.embedders.parts import Parts
from memory_operator.embedders.vendor import VendorEmbedder
from memory_operator.embedders.vendors.openai import OPENAI, OPENAI_FORM
from memory_operator.errors import ConfigurationError, CredentialRefused, MemoryOperatorError, UnsupportedType

API_VERSION = "2024-10-21"
KEY_HEADER = "api-key"
TOKEN_HOSTS = "MEMORY_AZURE_TOKEN_HOSTS"
_AZURE_HOSTS = (
    *("openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com"),
    *("openai.azure.us", "cognitiveservices.azure.us", "openai.azure.cn", "cognitiveservices.azure.cn"),
)
_SCOPES = {
    ".azure.us": "https://cognitiveservices.azure.us/.default",
    ".azure.cn": "https://cognitiveservices.azure.cn/.default",
}
_PUBLIC_SCOPE = "https://cognitiveservices.azure.com/.default"

# A deployment's name does not tell its model, so `dimensions` is sent until it is refused.
AZURE_FORM = replace(OPENAI_FORM, takes_dimensions=lambda _: True)


def _refusal(reply: Reply, host: str, model: str) -> MemoryOperatorError:
    standard = refusal(reply, host=host, model=model)
    if isinstance(standard, CredentialRefused):
        return CredentialRefused(
            standard.message, hint="give the workload identity the role Cognitive Services OpenAI User on the resource"
        )
    return standard


_BY_IDENTITY = replace(AZURE_FORM, refusal=_refusal)


class IdentifiedEmbedder(VendorEmbedder):
    """A deployment that is called with a token of this process's workload identity."""

    def __init__(self, parts: Parts, path: str) -> None:
        super().__init__(parts, _BY_IDENTITY, endpoint(parts.config, path, None))
        host = urlsplit(parts.config.base_url or "").hostname or ""
        _check_receiver(parts.config.base_url or "", host, parts.environment)
        self._path = path
        self._scope = token_scope(host)

    async def _authorised(self, timeout: float) -> Endpoint:
        token = await self._parts.identity.token(self._scope, timeout)
        return endpoint(self._config, self._path, token)

    def _refused_credential(self) -> None:
        self._parts.identity.forget(self._scope)


def token_scope(host: str) -> str:
    """The scope of tokens for an endpoint: that of its cloud, the public one for hosts that are not Azure's."""
    return next((scope for end, scope in _SCOPES.items() if host.endswith(end)), _PUBLIC_SCOPE)


def _check_receiver(base_url: str, host: str, environment: Mapping[str, str]) -> None:
    """Refuse to send our token to anybody but Azure: whoever may write Providers chooses the endpoint, and the token
    is worth more than this one deployment.

    Raises:
        ConfigurationError: the endpoint is not Azure's, and not allowed by whoever runs this process.
    """
    further = [name.strip().lower() for name in environment.get(TOKEN_HOSTS, "").split(",") if name.strip()]
    known = any(host == name or host.endswith(f".{name}") for name in (*_AZURE_HOSTS, *further))
    private = base_url.startswith("https://") or host in ("127.0.0.1", "::1", "localhost")
    if not known or not private:
        raise ConfigurationError(
            "The workload identity is not used for this endpoint, which is not Azure's",
            hint=f"correct spec.platform.endpoint (https), or allow its host with {TOKEN_HOSTS} of this process",
        )


def _build(parts: Parts) -> Embedder:
    config = parts.config
    if not config.base_url:
        raise ConfigurationError(
            f"Platform {PLATFORM} needs an endpoint", hint="set spec.platform.endpoint to the resource's own"
        )
    path = f"/openai/deployments/{quote(config.model, safe='')}/embeddings?api-version={API_VERSION}"
    if config.auth_type == WORKLOAD_IDENTITY:
        return IdentifiedEmbedder(parts, path)
    if config.auth_type not in ("accessKey", None):
        raise UnsupportedType(
            f"spec.auth.type {config.auth_type} is not supported on platform {PLATFORM}",
            hint=f"use {WORKLOAD_IDENTITY} or accessKey",
        )
    return VendorEmbedder(parts, AZURE_FORM, endpoint(config, path, parts.credential, key_header=KEY_HEADER))


AZURE = replace(OPENAI, build=_build)
