"""Keys, header values, paths and reply bodies stay out of messages, reprs and logs."""

from __future__ import annotations

import logging
import traceback

import pytest

from memory_operator.errors import ConfigurationError, MemoryOperatorError
from vendor import Fault

KEY = "sk-secret-key-0123456789"
HEADER = "header-secret-42"
BODY = '{"error":{"message":"body-secret: your key sk-secret-key-0123456789"}}'
SECRETS = (KEY, HEADER, "body-secret", "account-secret")


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(status=status, body=BODY) for status in (302, 400, 401, 404, 413, 429, 500)),
        Fault(reset="before"),
        Fault(truncate=True),
        Fault(value="nan"),
        Fault(huge_mib=8),
        Fault(hold=True),
    ],
)
async def test_no_error_or_log_line_tells_a_secret(make, vendor, fault, caplog):
    caplog.set_level(logging.DEBUG, logger="memory_operator")
    vendor.fault = fault
    embedder = make(KEY, headers={"X-Gateway": HEADER}, base_url=f"{vendor.root_url}/account-secret/v1")
    with pytest.raises(MemoryOperatorError) as failed:
        await embedder.embed(["text"], mode="document", timeout=0.5, dimensions=48)

    told = "".join(traceback.format_exception(failed.value)) + failed.value.hint + repr(embedder) + caplog.text
    assert not [secret for secret in SECRETS if secret in told]


async def test_the_key_and_the_headers_are_sent(make, vendor):
    await make(KEY, headers={"X-Gateway": HEADER}).embed(["text"], mode="query", timeout=10, dimensions=48)
    assert vendor.calls[0].key == KEY
    assert vendor.calls[0].headers["x-gateway"] == HEADER


async def test_the_credential_wins_over_an_authorization_header(make, vendor):
    headers = {"AUTHORIZATION": "Bearer from-the-manifest"}
    await make(KEY, headers=headers).embed(["text"], mode="query", timeout=10, dimensions=48)
    await make(None, headers=headers).embed(["text"], mode="query", timeout=10, dimensions=48)
    assert vendor.keys == [KEY, "from-the-manifest"]


async def test_a_line_break_at_the_end_of_a_secret_is_no_part_of_the_key(make, vendor):
    await make(KEY + "\n").embed(["text"], mode="query", timeout=10, dimensions=48)
    assert vendor.keys == [KEY]


@pytest.mark.parametrize("credential", ["", "  \n", f"{KEY}\nX-Evil: 1", f"{KEY} b", f"{KEY}é", f"{KEY}\x00"])
async def test_a_key_that_http_cannot_carry_is_refused_before_any_call(make, vendor, credential):
    with pytest.raises(ConfigurationError, match="credential") as refused:
        make(credential)
    assert KEY not in str(refused.value) + refused.value.hint
    assert vendor.count == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"X Name": "v"},
        {"": "v"},
        {"X-Name:": "v"},
        {"X-Name": f"{HEADER}\r\nX-Evil: 1"},
        {"X-Name": f"{HEADER}é"},
        {"X-Name": f" {HEADER}"},
        {"Content-Length": "0"},
        {"transfer-encoding": "chunked"},
    ],
)
async def test_headers_that_http_cannot_carry_are_refused_without_their_value(make, headers):
    with pytest.raises(ConfigurationError) as refused:
        make(headers=headers)
    assert HEADER not in str(refused.value) + refused.value.hint


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "host", "Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer"),
        *("Upgrade", "Transfer-Encoding", "Via", "Forwarded", "HTTP2-Settings"),
    ],
)
async def test_a_provider_cannot_set_the_host_or_a_header_of_the_connection(make, name):
    with pytest.raises(ConfigurationError, match="cannot be set by a Provider"):
        make(headers={name: "other.example"})
