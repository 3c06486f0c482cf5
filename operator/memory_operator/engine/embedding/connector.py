"""From a configuration snapshot to an embedder: its credential and its CA, read where the snapshot says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from cachetools import LRUCache, TTLCache

from memory_operator.contract.known_models import default_secret_keys, needs_credential
from memory_operator.embedders import Embedder, EmbedderPool, Reranker
from memory_operator.engine.embedding.circuit_breaker import Breaker
from memory_operator.engine.ports.secrets import checked_credential
from memory_operator.engine.ports.sources import SecretReader
from memory_operator.errors import (
    CredentialChangedWhileHeld,
    CredentialRefused,
    MemoryOperatorError,
    ModelGone,
    SecretMissing,
    SourceUnavailable,
)
from memory_operator.logs import get_logger
from memory_operator.plan.space import CallConfig, RerankConfig, SecretKeyConfig
from memory_operator.settings import CredentialAllowList
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import credentials, model_checks
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

SECRET_CACHE_SECONDS = 60.0
PROBE_SECONDS = 10.0
_READ_SECONDS = 5.0
_NOTED_SECONDS = 5.0
_SECRETS_KEPT = 1024
_BREAKERS_KEPT = 1024
_CA_KEYS = ("ca.crt", "tls.crt")


class Connector:
    """Makes embedders for one event loop. Secrets are kept in memory for at most SECRET_CACHE_SECONDS."""

    def __init__(
        self,
        pool: EmbedderPool,
        read_secret: SecretReader,
        allowed: CredentialAllowList,
        environment: Mapping[str, str],
        proof: Callable[[str], bytes] | None = None,
    ) -> None:
        """`proof` recognises a credential without storing it; without it no space's credential is compared."""
        self._proof = proof
        self._pool = pool
        self._read_secret = read_secret
        self._allowed = allowed
        self._environment = environment
        self._secrets: TTLCache[tuple[str, str], Mapping[str, str]] = TTLCache(_SECRETS_KEPT, SECRET_CACHE_SECONDS)
        self._worked: LRUCache[int, bytes] = LRUCache(_SECRETS_KEPT)
        self._gone: LRUCache[int, float] = LRUCache(_SECRETS_KEPT)
        """When each space's vendor last said that its model is gone, until it embeds again."""
        self._breakers: LRUCache[tuple[object, ...], Breaker] = LRUCache(_BREAKERS_KEPT)

    async def embedder(self, config: CallConfig) -> Embedder:
        """An embedder that is ready to be called.

        Raises SecretMissing, SourceUnavailable, UnsupportedType, ConfigurationError.
        """
        credential = await self.credential(config)
        return self._pool.embedder(config, credential, await self._ca_pem(config))

    async def reranker(self, config: RerankConfig) -> Reranker:
        """A reranker that is ready to be called; on a server of its own it may need no key. Raises as `embedder`."""
        credential = None if config.elsewhere and config.credential is None else await self.credential(config)
        return self._pool.reranker(config, credential, await self._ca_pem(config))

    async def embedder_of(self, space: Space) -> tuple[Embedder, bytes | None]:
        """An embedder for a space, and the proof of its credential, for `worked`.

        Raises as `embedder`, and CredentialChangedWhileHeld.
        """
        proof = await self.checked_proof(space)
        return await self.embedder(space.config), proof

    async def checked_proof(self, space: Space) -> bytes | None:
        """The proof of a space's credential; None where there is no Secret.

        While the Provider names another vendor, the Secret of the same name may hold that vendor's key by now.
        Raises as `credential`, and CredentialChangedWhileHeld.
        """
        reference = space.config.credential
        if self._proof is None or reference is None or reference.secret is None:
            return None
        credential = await self.credential(space.config)
        proof = None if credential is None else self._proof(credential)
        if space.credential_moved and proof != space.credential_proof:
            raise CredentialChangedWhileHeld(
                f"Secret {space.config.namespace}/{reference.secret.name} holds another key than the one that worked"
                " with the applied vendor, and the Provider names another vendor: it is not sent to the old one",
                hint="consent to the change, or keep the new vendor's key in a Secret of another name",
            )
        return proof

    async def worked(self, store: Store, space: Space, proof: bytes | None) -> None:
        """Keep that the vendor of a space took a credential. Never raises: the call it was for is done."""
        await self._answered(store, space)
        if proof is None or space.credential_moved or proof == space.credential_proof:
            return
        if self._worked.get(space.id) == proof:
            return
        try:
            async with store.connection() as conn:
                await credentials.keep_proof(conn, space.id, proof)
        except MemoryOperatorError as error:
            log.info("which credential works is not written down, retrying at the next call: %s", error)
        else:
            self._worked[space.id] = proof

    async def failed(self, store: Store, space: Space, error: MemoryOperatorError) -> None:
        """Keep that the vendor of a space says that its model is gone. Never raises."""
        now = asyncio.get_running_loop().time()
        if not isinstance(error, ModelGone) or now - self._gone.get(space.id, float("-inf")) < _NOTED_SECONDS:
            return
        self._gone[space.id] = now
        await self._note(store, model_checks.note_gone, space)

    async def _answered(self, store: Store, space: Space) -> None:
        if self._gone.pop(space.id, None) is not None:
            await self._note(store, model_checks.note_there, space)

    async def _note(self, store: Store, note: Callable[[Conn, int], Awaitable[None]], space: Space) -> None:
        try:
            async with store.connection() as conn:
                await note(conn, space.id)
        except MemoryOperatorError as error:
            log.info("whether a model is there is not written down, retrying at the next call: %s", error)

    def breaker(self, config: CallConfig) -> Breaker:
        """The breaker that all calls of this process to one vendor share."""
        key = (config.namespace, config.type, config.base_url, config.platform, config.model, config.credential)
        found = self._breakers.get(key)
        if found is None:
            found = self._breakers[key] = Breaker(asyncio.get_running_loop().time)
        return found

    async def credential(self, config: CallConfig) -> str | None:
        """The secret that a configuration refers to; None where it needs none and names none."""
        reference = config.credential
        if reference is None:
            if needs_credential(config.type, config.auth_type):
                raise SecretMissing(
                    f"a Provider of type {config.type} needs a credential and names none",
                    hint="set spec.credential.secretRef.name to a Secret in the Provider's namespace",
                )
            return None
        if reference.secret is not None:
            platform = config.platform.type if config.platform else None
            keys = default_secret_keys(config.type, platform)
            key, value = await self._from_secret(config.namespace, reference.secret, keys)
            return checked_credential(config.namespace, reference.secret.name, key, value)
        if reference.env_var is not None:
            return self._from_environment(reference.env_var)
        if reference.file_path is not None:
            return await asyncio.to_thread(self._from_file, reference.file_path)
        return None

    def forget(self, config: CallConfig, error: BaseException) -> None:
        """Read the Secret again at the next call when a vendor has just refused what is cached."""
        if isinstance(error, CredentialRefused) and config.credential and config.credential.secret:
            self._secrets.pop((config.namespace, config.credential.secret.name), None)

    async def _ca_pem(self, config: CallConfig) -> str | None:
        if config.ca_secret is None:
            return None
        _, pem = await self._from_secret(config.namespace, config.ca_secret, _CA_KEYS)
        return pem

    async def _from_secret(
        self, namespace: str, ref: SecretKeyConfig, default_keys: tuple[str, ...]
    ) -> tuple[str, str]:
        """The key that was found in a Secret, and its value."""
        data = await self._secret(namespace, ref.name)
        keys = (ref.key,) if ref.key else default_keys
        for key in keys:
            if data.get(key, "").strip():
                return key, data[key].strip()
        raise SecretMissing(
            f"Secret {namespace}/{ref.name} has no key {' or '.join(keys)}",
            hint="add one of them to the Secret, or name the right key in the Provider",
        )

    async def _secret(self, namespace: str, name: str) -> Mapping[str, str]:
        if f"{namespace}/{name}" in self._allowed.withheld_secrets:
            raise SecretMissing(
                f"Secret {namespace}/{name} belongs to memory-operator itself and is for no Provider",
                hint="name a Secret that holds the vendor's key alone",
            )
        cached = self._secrets.get((namespace, name))
        if cached is not None:
            return cached
        try:
            async with asyncio.timeout(_READ_SECONDS):
                data = await self._read_secret(namespace, name)
        except TimeoutError as error:
            raise SourceUnavailable(
                f"reading Secret {namespace}/{name} took longer than {_READ_SECONDS:g} s"
            ) from error
        self._secrets[(namespace, name)] = data
        return data

    def _from_environment(self, name: str) -> str:
        if name not in self._allowed.env_vars:
            raise SecretMissing(
                f"spec.credential.envVar {name} is not among the variables that Providers may name",
                hint="use spec.credential.secretRef, or allow the name with MEMORY_CREDENTIAL_ENV_VARS",
            )
        value = self._environment.get(name, "").strip()
        if not value:
            raise SecretMissing(f"environment variable {name} is not set in this process")
        return value

    def _from_file(self, text: str) -> str:
        directory, path = self._allowed.directory, Path(text)
        if directory is None or not path.resolve().is_relative_to(directory.resolve()):
            raise SecretMissing(
                "spec.credential.filePath does not lead below the folder that Providers may read",
                hint="use spec.credential.secretRef, or allow a folder with MEMORY_CREDENTIAL_DIRECTORY",
            )
        try:
            return path.read_text().strip()
        except OSError as error:
            raise SecretMissing(f"the credential file cannot be read ({error.strerror})") from error
