"""``$tls_...``: the connection that a message came over, its certificates and the client's."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

from kamc.declare import pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.runtime.context import Ctx
from kamc.runtime.net.connection import SecurityFacts
from kamc.runtime.pv.bind import BoundPv
from stdlib_modules.tls import certificate as x509
from stdlib_modules.tls.config import TlsContext, TlsSocket

_CONNECTION: Final = ("tls_version", "tls_description", "tls_cipher_info", "tls_cipher_bits", "tls_peer_server_name")
_CHECKS: Final = ("tls_peer_verified", "tls_peer_revoked", "tls_peer_expired", "tls_peer_selfsigned")
_FIELDS: Final = (
    "raw_cert", "urlencoded_cert", "version", "serial", "subject", "issuer", *(f"subject_{n}" for n in x509.NAMES), *(f"issuer_{n}" for n in x509.NAMES if n != "uid"),
    *(f"san_{n}" for n in x509.ALTERNATIVES), "notBefore", "notAfter",
)  # fmt: skip
_PEER: Final = tuple(f"tls_peer_{f}" for f in _FIELDS)
_MY: Final = tuple(f"tls_my_{f}" for f in _FIELDS if not f.startswith("not"))
_COUNTED: Final = {"DNS": "hostname", "URI": "uri", "EMAIL": "email", "IP": "ip"}
_LINES: Final = ("m_issuer_line", "p_issuer_line", "m_subject_line", "p_subject_line")


def description(sock: ssl.SSLSocket) -> str:
    """The cipher in OpenSSL's words."""
    name = (sock.cipher() or ("",))[0]
    return next((str(c["description"]).strip() for c in sock.context.get_ciphers() if c["name"] == name), name)


def facts(sock: ssl.SSLSocket) -> SecurityFacts:
    """What the handshake has shown."""
    cipher, _, bits = sock.cipher() or (None, None, None)
    return SecurityFacts(sock.version(), cipher, bits, description(sock), sock.asked if isinstance(sock, TlsSocket) else None,
                         sock.context.shown if isinstance(sock.context, TlsContext) else None, sock.getpeercert(binary_form=True),
                         sock.context.verify_mode != ssl.CERT_NONE)  # fmt: skip


class TlsVariables:
    rt: Any

    def _facts(self, ctx: Ctx) -> SecurityFacts | None:
        found: SecurityFacts | None = self.rt.worker.streams.security_of(ctx.flow.conn) if ctx.flow.conn else None
        return found

    def certificate(self, ctx: Ctx, *, own: bool) -> tuple[bytes, Any] | None:
        """The certificate of a side, as bytes and parsed; None when it showed none."""
        found = self._facts(ctx)
        der = None if found is None else found.own if own else found.peer
        if der is None:
            return None
        try:
            return der, x509.load(der)
        except ValueError as err:
            self.rt.log.error("tls: a certificate cannot be read: %s", err)
            return None

    def verified(self, ctx: Ctx) -> bool:
        """Whether the peer has shown a certificate that was checked."""
        found = self._facts(ctx)
        return found is not None and found.checked and found.peer is not None

    @pv_class(*_CONNECTION, optional=True)
    def pv_connection(self, spec: PvSpec) -> BoundPv:
        values: dict[str, Callable[[SecurityFacts], Value]] = {
            "tls_version": lambda f: f.version, "tls_description": lambda f: f.description + "\n", "tls_cipher_info": lambda f: f.cipher,
            "tls_cipher_bits": lambda f: f.bits, "tls_peer_server_name": lambda f: f.asked,
        }  # fmt: skip
        read = values[spec.name]

        def get(ctx: Ctx) -> Value:
            found = self._facts(ctx)
            return read(found) if found is not None else None

        return BoundPv(get)

    @pv_class(*_CHECKS, optional=True)
    def pv_check(self, spec: PvSpec) -> BoundPv:
        """1 or 0. A connection whose certificate is revoked or not good is never made, so these are seldom set."""
        what = spec.name.removeprefix("tls_peer_")

        def get(ctx: Ctx) -> Value:
            if what == "verified":
                return int(self.verified(ctx))
            if what == "revoked":
                return 0
            found = self.certificate(ctx, own=False)
            if found is None:
                return 0
            return int(x509.is_expired(found[1]) if what == "expired" else found[1].issuer == found[1].subject)

        return BoundPv(get)

    @pv_class(*_PEER, *_MY, optional=True)
    def pv_certificate(self, spec: PvSpec) -> BoundPv:
        own = spec.name.startswith("tls_my_")
        field = spec.name.removeprefix("tls_my_" if own else "tls_peer_")

        def get(ctx: Ctx) -> Value:
            found = self.certificate(ctx, own=own)
            return _field(found[0], found[1], field) if found is not None else None

        return BoundPv(get)

    @pv_class("tls_peer_san_count", "tls_my_san_count")
    def pv_count(self, spec: PvSpec) -> BoundPv:
        own, kind = spec.name.startswith("tls_my_"), _COUNTED[(spec.inner or "").upper()]

        def get(ctx: Ctx) -> Value:
            found = self.certificate(ctx, own=own)
            return len(x509.alternatives(found[1], kind)) if found is not None else 0

        return BoundPv(get)

    @classmethod
    def check_pv_tls_peer_san_count(cls, spec: PvSpec) -> str | None:
        return None if (spec.inner or "").upper() in _COUNTED else f"the name is one of {' '.join(_COUNTED)}"

    check_pv_tls_my_san_count = check_pv_tls_peer_san_count

    @pv_class("tls")
    def pv_tls(self, spec: PvSpec) -> BoundPv:
        """Whole names in one line, ``CN=...,O=...`` (RFC 4514)."""
        side, _, which = (spec.inner or "").partition("_")

        def get(ctx: Ctx) -> Value:
            found = self.certificate(ctx, own=side == "m")
            if found is None:
                return None
            return str((found[1].issuer if which.startswith("issuer") else found[1].subject).rfc4514_string())

        return BoundPv(get)

    @classmethod
    def check_pv_tls(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _LINES else f"the name is one of {' '.join(_LINES)}"


def _field(der: bytes, cert: Any, field: str) -> Value:
    name, _, rest = field.partition("_")
    match name:
        case "raw":
            return x509.pem(der)
        case "urlencoded":
            return x509.escaped(x509.pem(der))
        case "version":
            return x509.version(cert)
        case "serial":
            return str(cert.serial_number)
        case "notBefore":
            return x509.moment(cert.not_valid_before_utc)
        case "notAfter":
            return x509.moment(cert.not_valid_after_utc)
        case "san":
            return next(iter(x509.alternatives(cert, rest)), None)
    # a whole name is no single value: as in Kamailio there is none
    return x509.attribute(cert.subject if name == "subject" else cert.issuer, rest) if rest else None
