"""What a Provider may have sent to its vendor as a key."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from memory_operator.embedders import EmbedderPool
from memory_operator.engine.embedding.connector import Connector
from memory_operator.errors import SecretMissing
from memory_operator.plan.space import CallConfig
from memory_operator.settings import CredentialAllowList

CONFIG = CallConfig.model_validate(
    {"namespace": "agents", "type": "openai", "model": "m", "credential": {"secret": {"name": "key", "key": "k"}}}
)


async def credential(value: str) -> str | None:
    async def read(_namespace: str, _name: str) -> Mapping[str, str]:
        return {"k": value}

    async with EmbedderPool({}) as pool:
        return await Connector(pool, read, CredentialAllowList(), {}).credential(CONFIG)


async def test_a_key_of_a_vendor_is_used_without_the_line_break_of_its_file() -> None:
    assert await credential("sk-1\n") == "sk-1"
    assert await credential("x" * 8192) == "x" * 8192


@pytest.mark.parametrize("value", ["x" * 8193, "a\nb", "a\tb", "a\x00b", "\x7fa", "-----BEGIN\nKEY-----\n"])
async def test_what_cannot_be_a_key_is_not_sent(value: str) -> None:
    with pytest.raises(SecretMissing, match="does not hold a vendor's key") as refused:
        await credential(value)
    assert value not in str(refused.value)
