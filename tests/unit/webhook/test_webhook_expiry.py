"""The end of a certificate is read as the certificate says it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fixtures.certificates import self_signed
from memory_webhook.expiry import not_after


def valid_until(end: datetime, names: int = 1) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "n" * 60) for _ in range(names)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime(1960, 1, 1, tzinfo=UTC)).not_valid_after(end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2075])
def test_the_end_is_read_in_both_forms_of_a_date(year: int) -> None:
    end = datetime(year, 11, 21, 10, 3, 59, tzinfo=UTC)
    assert not_after(valid_until(end)) == end.timestamp()


def test_long_names_before_the_dates_are_passed_over() -> None:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    assert not_after(valid_until(end, names=20)) == end.timestamp()


def test_of_a_chain_the_first_certificate_counts() -> None:
    pem = self_signed().certificate
    assert not_after(pem + valid_until(datetime(2040, 1, 1, tzinfo=UTC))) == not_after(pem)


@pytest.mark.parametrize("size", [0, 1, 2, 5, 40, 100])
def test_what_is_cut_off_is_no_certificate(size: int) -> None:
    der = x509.load_pem_x509_certificate(self_signed().certificate).public_bytes(serialization.Encoding.DER)
    with pytest.raises(ValueError):
        not_after(ssl.DER_cert_to_PEM_cert(der[:size]).encode())


def test_a_text_without_a_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="no PEM certificate"):
        not_after(b"nothing")
