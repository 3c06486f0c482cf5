"""Opening a client of the API server: as the pod's ServiceAccount, or by one kubeconfig file that was named."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from memory_operator.errors import ConfigurationError
from memory_operator.logs import get_logger

log = get_logger(__name__)

SERVICE_ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")

TOKEN_SECONDS = 30.0
"""How long a token that was read is used before its file is read again; kubelet renews it long before it ends."""
_REFUSED_SECONDS = 1.0
"""How long a token that the API server refused is used all the same, lest each request start an exec plugin."""
_LOAD_SECONDS = 20.0
"""How long an exec plugin of a kubeconfig may take to return a credential."""
_TOKEN = "BearerToken"

_LOAD_ERRORS = (ConfigException, OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError)
"""What the client's loaders let through for a file that is not what they expect; OSError covers TimeoutError."""

Reload = Callable[[Configuration], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Pod:
    """Where a process in a pod finds who it is and where the API server is."""

    folder: Path = SERVICE_ACCOUNT_FOLDER
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)


@asynccontextmanager
async def open_api(
    kubeconfig: Path | None, *, pod: Pod | None = None, token_seconds: float = TOKEN_SECONDS
) -> AsyncIterator[ApiClient]:
    """A client of the API server, for the running event loop only.

    Without a kubeconfig it is the pod's ServiceAccount; an ambient kubeconfig is never read. A token that comes from
    a file is read again after token_seconds. Raises ConfigurationError.
    """
    api = ApiClient(await configure(kubeconfig, pod=pod, token_seconds=token_seconds))
    api.user_agent = "memory-operator"
    try:
        yield api
    finally:
        await api.close()


async def configure(
    kubeconfig: Path | None, *, pod: Pod | None = None, token_seconds: float = TOKEN_SECONDS
) -> Configuration:
    """Address, CA and credential of the API server, as open_api uses them. Raises ConfigurationError."""
    reload = _from_file(kubeconfig) if kubeconfig is not None else _from_pod(pod or Pod())
    configuration = Configuration()
    # As client-go: many clusters' CAs lack an extension that Python ≥ 3.13 asks for.
    configuration.disable_strict_ssl_verification = True
    try:
        async with asyncio.timeout(_LOAD_SECONDS):
            await reload(configuration)
    except TimeoutError:
        raise ConfigurationError(f"{kubeconfig}: no credential within {_LOAD_SECONDS:g} s") from None
    except _LOAD_ERRORS as error:
        raise _unusable(kubeconfig, error) from None
    if configuration.tls_server_name:  # the watch's sessions have no place for it
        raise ConfigurationError(f"{kubeconfig}: tls-server-name is not supported", hint="use the certificate's name")
    configuration.refresh_api_key_hook = ApiCredential(reload, token_seconds)  # type: ignore[assignment] # typed as None
    return configuration


def namespace_of(kubeconfig: Path | None, *, pod: Pod | None = None) -> str:
    """The namespace that this process belongs to: the pod's, or that of the kubeconfig's current context.

    Raises ConfigurationError.
    """
    try:
        if kubeconfig is None:
            return ((pod or Pod()).folder / "namespace").read_text().strip()
        config = yaml.safe_load(kubeconfig.read_text())
        chosen = [each["context"] for each in config["contexts"] if each["name"] == config["current-context"]]
        return str(chosen[0].get("namespace") or "default")
    except _LOAD_ERRORS as error:
        raise _unusable(kubeconfig, error) from None


def served_namespaces(namespaces: tuple[str, ...], kubeconfig: Path | None) -> tuple[str, ...]:
    """The namespaces whose Providers are acted on; the process's own when none are named."""
    return namespaces or (namespace_of(kubeconfig),)


def _from_pod(pod: Pod) -> Reload:
    async def reload(configuration: Configuration) -> None:
        loader = InClusterConfigLoader(
            token_filename=str(pod.folder / "token"),
            cert_filename=str(pod.folder / "ca.crt"),
            try_refresh_token=False,
            environ=pod.environment,
        )
        loader.load_and_set(configuration)
        _strip_token(configuration)

    return reload


def _from_file(kubeconfig: Path) -> Reload:
    async def reload(configuration: Configuration) -> None:
        # persist_config writes refreshed tokens back into a file that is the user's.
        await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration, persist_config=False)
        _strip_token(configuration)

    return reload


class ApiCredential:
    """Reads a token that was renewed: `configuration.refresh_api_key_hook`, called before each request."""

    def __init__(self, reload: Reload, seconds: float) -> None:
        self._reload = reload
        self._seconds = seconds
        self._read_at = asyncio.get_running_loop().time()

    def expire_soon(self) -> None:
        """The API server refused the token: read it anew before long."""
        self._read_at = min(self._read_at, asyncio.get_running_loop().time() - self._seconds + _REFUSED_SECONDS)

    async def __call__(self, configuration: Configuration) -> None:
        """Have the configuration carry a token that is not older than it may be."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at < self._seconds:
            return
        self._read_at = now
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                await self._reload(configuration)
        except _LOAD_ERRORS as error:
            # The current token may still be valid; the API server refuses it when it is not.
            log.warning(
                "cannot reload the API server's credential (%s), retrying in %g s", type(error).__name__, self._seconds
            )


def credential_refused(api: ApiClient) -> None:
    """Have the token that the API server just refused read anew before long."""
    hook = api.configuration.refresh_api_key_hook
    if isinstance(hook, ApiCredential):
        hook.expire_soon()


def _strip_token(configuration: Configuration) -> None:
    if _TOKEN in configuration.api_key:  # a file ends with a newline more often than not; a header may not
        configuration.api_key[_TOKEN] = configuration.api_key[_TOKEN].strip()


def _unusable(kubeconfig: Path | None, error: Exception) -> ConfigurationError:
    # Neither the error's own text nor its chain: a parser quotes the line, and the line may hold the token.
    what = f"{type(error).__name__}{f': {error.strerror}' if isinstance(error, OSError) else ''}"
    if kubeconfig is None:
        return ConfigurationError(
            f"this process is not in a pod with a ServiceAccount token ({what})",
            hint="name a kubeconfig file, or let the pod mount its token",
        )
    return ConfigurationError(
        f"{kubeconfig} cannot be used as a kubeconfig ({what})", hint="try kubectl --kubeconfig with the same file"
    )
