"""Which Secrets a Provider may name, and what of them it may use, wherever they come from."""

from __future__ import annotations

from collections.abc import Mapping

from memory_operator.errors import SecretMissing

OURS = ("app.kubernetes.io/part-of", "memory-operator")
"""Label of all that our chart makes, also of what an earlier release of it left."""
MAX_VALUE_BYTES = 8 * 1024
_HELM_RELEASE = "sh.helm.release."
_PUBLIC_TLS_KEYS = ("ca.crt", "tls.crt")


def usable_values(
    namespace: str, name: str, kind: str, labels: Mapping[str, object], values: Mapping[str, str]
) -> dict[str, str]:
    """The values of a Secret of this type and these labels that a Provider may use.

    Opaque Secrets that are neither ours nor Helm's; of a TLS Secret the certificates, which a private CA may be in.
    Raises SecretMissing.
    """
    if name.startswith(_HELM_RELEASE) or labels.get("owner") == "helm":
        raise _refused(namespace, name, "belongs to Helm")
    if labels.get(OURS[0]) == OURS[1]:
        raise _refused(namespace, name, "belongs to memory-operator itself")
    if kind == "kubernetes.io/tls":
        return {key: values[key] for key in _PUBLIC_TLS_KEYS if key in values}
    if kind not in ("", "Opaque"):
        raise _refused(namespace, name, "is not of type Opaque")
    return dict(values)


def checked_credential(namespace: str, name: str, key: str, value: str) -> str:
    """A vendor's key as it is in a Secret, without the line break that a file ends with. Raises SecretMissing."""
    credential = value.strip()
    if len(credential.encode()) > MAX_VALUE_BYTES or any(not character.isprintable() for character in credential):
        raise SecretMissing(
            f"key {key} of Secret {namespace}/{name} does not hold a vendor's key: it is longer than"
            f" {MAX_VALUE_BYTES} bytes or has control characters",
            hint="put the vendor's key alone into it, on one line",
        )
    return credential


def _refused(namespace: str, name: str, why: str) -> SecretMissing:
    return SecretMissing(
        f"Secret {namespace}/{name} {why} and is for no Provider",
        hint="name a Secret of type Opaque that holds the vendor's key alone",
    )
