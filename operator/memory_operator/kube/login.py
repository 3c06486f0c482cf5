"""How kopf reaches the API server: with the same address, CA and credential as our own client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import kopf
from kubernetes.aio.client import ApiClient, Configuration

from memory_operator.errors import ConfigurationError
from memory_operator.kube.client import Pod, configure
from memory_operator.logs import get_logger

log = get_logger(__name__)

Login = Callable[..., Coroutine[Any, Any, kopf.AiohttpSession | None]]


def login_with(kubeconfig: Path | None, pod: Pod | None) -> Login:
    """A login handler for one run of kopf: kopf's own ones read ambient kubeconfigs, and no token files."""
    used: set[str | None] = set()

    async def login(**_: Any) -> kopf.AiohttpSession | None:
        # Nothing may be raised here: kopf's callers would wait for a login for ever. None ends that run of kopf.
        try:
            configuration = await configure(kubeconfig, pod=pod)
            header = await configuration.get_api_key_with_prefix("BearerToken")
        except ConfigurationError as error:
            log.warning("the watch cannot log in: %s", error.message)
            return None
        # kopf asks again only after a 401, and can't tell one session of ours from another.
        if header in used:
            log.warning("the watch cannot log in: the API server rejects this process's credential")
            return None
        used.add(header)
        return kopf.AiohttpSession(server=configuration.host, aiohttp_session=_session(configuration, header))

    return login


def _session(configuration: Configuration, header: str | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=ApiClient(configuration).rest_client.ssl_context),
        headers={"Authorization": header} if header else {},
        proxy=configuration.proxy,
        trust_env=True,
    )
