"""A stub of the authority that gives tokens for workload identities."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(slots=True)
class Authority:
    """What it accepts, what it has given, and what it was asked."""

    assertion: str | None = None
    """The one federated token that is accepted; None accepts any."""
    seconds: object = 3600
    """How long a token is said to be valid."""
    tokens: list[str] = field(default_factory=list)
    """Tokens that are valid; removed from here they are revoked."""
    exchanges: list[dict[str, str]] = field(default_factory=list)
    """The form of each exchange, and its `path`."""

    def exchange(self, target: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one exchange."""
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.exchanges.append({"path": target, **form})
        right = (
            form.get("grant_type") == "client_credentials"
            and form.get("client_assertion_type") == ASSERTION_TYPE
            and form.get("scope", "").endswith("/.default")
            and bool(form.get("client_id"))
            and self.assertion in (None, form.get("client_assertion"))
        )
        if not right:
            said = f"AADSTS700213: no match for assertion {form.get('client_assertion')}"
            return 401, json.dumps({"error": "invalid_client", "error_description": said}).encode()
        token = f"azure-token-{len(self.exchanges)}"
        self.tokens.append(token)
        return 200, json.dumps({"token_type": "Bearer", "expires_in": self.seconds, "access_token": token}).encode()
