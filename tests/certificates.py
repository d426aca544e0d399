"""Certificates for tests: an authority and what it has signed."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Writes ``NAME.crt`` and ``NAME.key`` into a folder; its own certificate is ``ca.crt``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca.test")])
        self._write("ca", self._signed(self.name, self.key, [], days=100), self.key)

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, alternatives: list[x509.GeneralName], *, days: int) -> x509.Certificate:
        begin = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
                   .serial_number(12345 if days > 0 else 7).not_valid_before(begin).not_valid_after(datetime.now(UTC).replace(microsecond=0) + timedelta(days=days))
                   .add_extension(x509.BasicConstraints(ca=subject == self.name, path_length=None), critical=True))  # fmt: skip
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    def issue(self, name: str, *, days: int = 50) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = ((NameOID.COUNTRY_NAME, "DE"), (NameOID.STATE_OR_PROVINCE_NAME, "Hessen"), (NameOID.LOCALITY_NAME, "Ffm"),
                      (NameOID.ORGANIZATION_NAME, f"Org {name}"), (NameOID.ORGANIZATIONAL_UNIT_NAME, f"U {name}"), (NameOID.COMMON_NAME, f"{name}.test"),
                      (NameOID.USER_ID, f"uid-{name}"))  # fmt: skip
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
        alternatives = [x509.DNSName(f"{name}.test"), x509.DNSName(f"alt.{name}.test"), x509.RFC822Name(f"{name}@san.test"),
                        x509.UniformResourceIdentifier(f"sip:{name}.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]  # fmt: skip
        self._write(name, self._signed(subject, key, alternatives, days=days), key)
