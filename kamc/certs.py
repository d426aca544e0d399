"""``kamc certs``: an authority and a certificate to begin with, for tests and networks of one's own."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kamc.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

#: browsers and phones refuse certificates that hold for longer
_DAYS: Final = 397
_AUTHORITY_DAYS: Final = 3650


def _save(path: Path, data: bytes, *, private: bool) -> None:
    path.touch(0o600 if private else 0o644)
    path.write_bytes(data)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as ser

    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


def _signed(subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, days: int,
            names: list[x509.GeneralName]) -> x509.Certificate:  # fmt: skip
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC).replace(microsecond=0)
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=days))
               .add_extension(x509.BasicConstraints(ca=not names, path_length=0 if not names else None), critical=True))  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def make(folder: Path, hosts: list[str]) -> list[Path]:
    """Write ca.crt, ca.key, server.crt and server.key; an authority that is there is used again. Raises ConfigError."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization as ser
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise ConfigError("certs needs cryptography: pip install 'kamc[tls]'") from None
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host.strip("[]"))))
        except ValueError:
            try:
                names.append(x509.DNSName(host.encode("idna").decode()))
            except (UnicodeError, ValueError):
                raise ConfigError(f"{host!r} is neither an address nor a host name") from None
    ca_crt, ca_key, crt, key_file = (folder / name for name in ("ca.crt", "ca.key", "server.crt", "server.key"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if ca_key.exists() and ca_crt.exists():
            loaded = ser.load_pem_private_key(ca_key.read_bytes(), None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ConfigError(f"{ca_key} is not a key that kamc certs has made")
            signer = loaded
            authority = x509.load_pem_x509_certificate(ca_crt.read_bytes()).subject.rfc4514_string().removeprefix("CN=")
        else:
            signer, authority = ec.generate_private_key(ec.SECP256R1()), "kamc test authority"
            _save(ca_key, _pem_key(signer), private=True)
            _save(ca_crt, _signed(authority, signer, authority, signer, _AUTHORITY_DAYS, []).public_bytes(ser.Encoding.PEM), private=False)
        key = ec.generate_private_key(ec.SECP256R1())
        _save(key_file, _pem_key(key), private=True)
        _save(crt, _signed(hosts[0][:64], key, authority, signer, _DAYS, names).public_bytes(ser.Encoding.PEM), private=False)
    except OSError as err:
        raise ConfigError(f"cannot write {err.filename}: {err.strerror or err}") from None
    except ValueError as err:
        raise ConfigError(f"{ca_key} or {ca_crt} cannot be read: {err}") from None
    return [ca_crt, ca_key, crt, key_file]


def section(folder: Path) -> str:
    """The sections of tls.cfg for what :func:`make` has written."""
    own = f"[server:default]\ncertificate = {folder}/server.crt\nprivate_key = {folder}/server.key\n"
    return f"{own}\n[client:default]\nverify_certificate = yes\nca_list = {folder}/ca.crt\n"
