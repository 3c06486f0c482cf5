"""When a certificate ends. The standard library can load one, and cannot say that."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


def not_after(pem: bytes) -> float:
    """Seconds since 1970 at which the first certificate of a PEM text ends. Raises ValueError."""
    block = _PEM.search(pem)
    if block is None:
        raise ValueError("it holds no PEM certificate")
    der = ssl.PEM_cert_to_DER_cert(block[0].decode("ascii"))
    try:
        certificate, _ = _element(der, _SEQUENCE)
        fields, _ = _element(certificate, _SEQUENCE)
        if fields[0] == _VERSION:
            _, fields = _element(fields)
        for _ in ("serial number", "signature", "issuer"):
            _, fields = _element(fields)
        validity, _ = _element(fields, _SEQUENCE)
        _, end = _element(validity)
        text, _ = _element(end)
        return _seconds(end[0], text.decode("ascii"))
    except IndexError as error:
        raise ValueError("the certificate is cut off") from error


def _element(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first element, and what comes behind it."""
    if tag is not None and der[0] != tag:
        raise ValueError("it is no certificate")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start])
    if start + length > len(der):
        raise ValueError("the certificate is cut off")
    return der[start : start + length], der[start + length :]


def _seconds(tag: int, text: str) -> float:
    # RFC 5280: two digits are a year from 1950 to 2049; both forms end in Z.
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    moment = datetime.strptime(text, form).replace(tzinfo=UTC)
    if tag == _UTC_TIME and moment.year >= 2050:
        moment = moment.replace(year=moment.year - 100)
    return moment.timestamp()
