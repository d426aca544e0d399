"""What the variables of module tls show of a certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from kamc.declare.values import Value

#: name of a field → dotted OID of the attribute in a distinguished name
_ATTRIBUTES: Final = {"cn": "2.5.4.3", "locality": "2.5.4.7", "country": "2.5.4.6", "state": "2.5.4.8", "organization": "2.5.4.10", "unit": "2.5.4.11",
                      "uid": "0.9.2342.19200300.100.1.1"}  # fmt: skip
_ESCAPED: Final = {**{c: f"%{c:02X}" for c in range(256) if not (48 <= c < 58 or 65 <= c < 91 or 97 <= c < 123 or c in b"-._~")}, 10: "%0a"}
NAMES: Final = tuple(_ATTRIBUTES)
ALTERNATIVES: Final = ("email", "hostname", "uri", "ip")


def load(der: bytes) -> Any:
    """A certificate. Raises ValueError."""
    from cryptography import x509

    return x509.load_der_x509_certificate(der)


def pem(der: bytes) -> str:
    import ssl

    return ssl.DER_cert_to_PEM_cert(der)


def escaped(text: str) -> str:
    """As in a URL, which is how ``$tls_*_urlencoded_cert`` shows a certificate."""
    return text.translate({c: e.lower() for c, e in _ESCAPED.items()})


def attribute(name: Any, field: str) -> Value:
    """The first value of an attribute of a distinguished name."""
    from cryptography import x509

    found = name.get_attributes_for_oid(x509.ObjectIdentifier(_ATTRIBUTES[field]))
    return str(found[0].value) if found else None


def alternatives(certificate: Any, kind: str) -> list[str]:
    """Subject alternative names (RFC 5280 section 4.2.1.6) of a kind."""
    from cryptography import x509

    kinds: dict[str, Callable[[Any], list[Any]]] = {
        "email": lambda e: e.get_values_for_type(x509.RFC822Name), "hostname": lambda e: e.get_values_for_type(x509.DNSName),
        "uri": lambda e: e.get_values_for_type(x509.UniformResourceIdentifier), "ip": lambda e: e.get_values_for_type(x509.IPAddress),
    }  # fmt: skip
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(v) for v in kinds[kind](extension)]


def moment(at: datetime) -> str:
    """As OpenSSL prints a time."""
    return f"{at:%b} {at.day:2d} {at:%H:%M:%S %Y} GMT"


def version(certificate: Any) -> int:
    """As it stands in the certificate: 2 is X.509 version 3."""
    return int(certificate.version.value)


def is_expired(certificate: Any) -> bool:
    return bool(certificate.not_valid_after_utc < datetime.now(UTC))
