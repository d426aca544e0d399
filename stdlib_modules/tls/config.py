"""``tls.cfg``: sections for connections that come in and go out, each a set of certificates and rules.

    [server:default]                 every connection to us that nothing else is said about
    [server:192.0.2.1:5061]          those to one of our sockets
    [server:any] server_name = NAME  those whose client asks for NAME (SNI)
    [client:default]  [client:192.0.2.9:5061]  [client:any] server_id = NAME
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from kamc.errors import ConfigError

_SECTION: Final = re.compile(r"\[\s*(server|client)\s*:\s*(?:(default|any)|(\[[0-9a-fA-F:.]+\]|[^\]:\s]+)\s*:\s*(\d+))\s*\]\Z", re.I)
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_ON, _OFF = ("yes", "on", "1", "true", "enabled"), ("no", "off", "0", "false", "disabled")
_VERSIONS: Final = {"TLSV1": ssl.TLSVersion.TLSv1, "TLSV1.0": ssl.TLSVersion.TLSv1, "TLSV1.1": ssl.TLSVersion.TLSv1_1, "TLSV1.2": ssl.TLSVersion.TLSv1_2,
                    "TLSV1.3": ssl.TLSVersion.TLSv1_3}  # fmt: skip
#: verify_client → (verify_certificate, require_certificate)
_CLIENT_RULES: Final = {"off": (False, False), "optional": (True, False), "on": (True, True)}
#: how server_name is compared: the name, the name and those below it, those below it
EXACT, DOMAIN, BELOW_DOMAIN = 0, 1, 2


class TlsSocket(ssl.SSLSocket):
    """A socket that remembers which name the client asked for."""

    asked: str | None = None


class TlsContext(ssl.SSLContext):
    """A context that remembers which certificate it shows."""

    shown: bytes | None = None


@dataclass(slots=True)
class Domain:
    """One section. ``side`` is server or client; ``address`` is None for default and any."""

    side: str
    kind: str = "default"
    address: tuple[str, int] | None = None
    method: str = "TLSv1.2+"
    verify_certificate: bool = False
    require_certificate: bool = False
    verify_depth: int = 9
    private_key: str = ""
    private_key_password: str = ""
    certificate: str = ""
    ca_list: str = ""
    ca_path: str = ""
    crl: str = ""
    cipher_list: str = ""
    server_name: str = ""
    server_name_mode: int = EXACT
    server_id: str = ""
    where: str = ""
    context: TlsContext | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        return f"[{self.side}:{self.kind if self.address is None else f'{self.address[0]}:{self.address[1]}'}]"

    def answers_to(self, name: str) -> bool:
        """Whether it is meant for a server name (SNI)."""
        own, name = self.server_name.lower(), name.lower()
        if not own:
            return False
        below = name.endswith("." + own)
        return {EXACT: name == own, DOMAIN: name == own or below, BELOW_DOMAIN: below}.get(self.server_name_mode, name == own)


def _flag(value: str) -> bool:
    if value.lower() in _ON:
        return True
    if value.lower() in _OFF:
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


def set_option(domain: Domain, key: str, value: str, path: Callable[[str], Path]) -> None:
    """One ``key = value`` line; ``path`` says what a file name means. Raises ValueError."""
    match key:
        case "method" | "tls_method":
            domain.method = value
        case "verify_certificate" | "verify_cert":
            domain.verify_certificate = _flag(value)
        case "require_certificate" | "require_cert":
            domain.require_certificate = _flag(value)
        case "verify_client":
            if value == "optional_no_ca":
                raise ValueError("verify_client optional_no_ca is not implemented: a certificate that was shown is checked, or none is asked for")
            if value not in _CLIENT_RULES:
                raise ValueError(f"verify_client is off, on or optional, not {value!r}")
            domain.verify_certificate, domain.require_certificate = _CLIENT_RULES[value]
        case "verify_depth" | "server_name_mode":
            setattr(domain, key, int(value))
        case "private_key" | "certificate" | "ca_list" | "ca_path" | "crl":
            setattr(domain, key, str(path(value)) if value else "")
        case "cipher_list" | "server_name" | "server_id" | "private_key_password":
            setattr(domain, key, value)
        case _:
            raise ValueError(f"unknown option {key!r}")


def parse(text: str, name: str, defaults: dict[str, Any], path: Callable[[str], Path]) -> list[Domain]:
    """All sections of a file; ``defaults`` are what the module's parameters say, ``path`` what a file name means. Raises ConfigError with
    file and line."""
    out: list[Domain] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].strip()
        if not line or line.startswith(";"):
            continue
        try:
            if line.startswith("["):
                match = _SECTION.match(line)
                if match is None:
                    raise ValueError(f"{line!r} is no section: [server:default], [client:default], [server:any], [server:ADDRESS:PORT] and so on are")
                address = (match[3].strip("[]").lower(), int(match[4])) if match[3] else None
                out.append(replace(Domain(match[1].lower(), **defaults), kind=(match[2] or "address").lower(), address=address, where=f"{name}:{number}"))
                continue
            key, equal, value = line.partition("=")
            if not equal:
                raise ValueError(f"{line!r} is neither a section nor key = value")
            if not out:
                raise ValueError("an option before the first section")
            set_option(out[-1], key.strip().lower(), value.strip().strip("'\""), path)
        except ValueError as err:
            raise ConfigError(f"tls: {name}:{number}: {err}") from None
    return out


def versions(method: str) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
    """Lowest and highest version. Raises ValueError; SSLv2 and SSLv3 are not spoken any more (RFC 6176, RFC 7568)."""
    text = method.strip().upper()
    if text == "SSLV23":
        return ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED
    low = _VERSIONS.get(text.removesuffix("+"))
    if low is None:
        raise ValueError(f"method {method!r} is none of TLSv1.3, TLSv1.3+, TLSv1.2, TLSv1.2+, TLSv1.1, TLSv1.1+, TLSv1, TLSv1+, SSLv23")
    return low, ssl.TLSVersion.MAXIMUM_SUPPORTED if text.endswith("+") else low


def first_certificate(text: str) -> bytes | None:
    """The first certificate of a PEM file: the one that is shown."""
    match = _PEM.search(text)
    return ssl.PEM_cert_to_DER_cert(match[0]) if match is not None else None


def build(domain: Domain, keylog: str = "") -> TlsContext:
    """The context of a section. Raises ConfigError."""
    server = domain.side == "server"
    context = TlsContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TlsSocket
    try:
        context.check_hostname = False
        wanted = ssl.CERT_REQUIRED if domain.require_certificate or (domain.verify_certificate and not server) else ssl.CERT_OPTIONAL
        context.verify_mode = wanted if domain.verify_certificate or domain.require_certificate else ssl.CERT_NONE
        context.minimum_version, context.maximum_version = versions(domain.method)
        if domain.cipher_list:
            context.set_ciphers(domain.cipher_list)
        if domain.certificate:
            context.load_cert_chain(domain.certificate, domain.private_key or None, password=domain.private_key_password or None)
            context.shown = first_certificate(Path(domain.certificate).read_text("latin-1"))
        elif server:
            raise ConfigError(f"tls: {domain.where}: {domain.title} has no certificate")
        if domain.ca_list or domain.ca_path:
            context.load_verify_locations(domain.ca_list or None, domain.ca_path or None)
        elif context.verify_mode != ssl.CERT_NONE:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH)
        if domain.crl:
            context.load_verify_locations(domain.crl)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        if keylog:
            context.keylog_filename = keylog
    except (OSError, ValueError) as err:
        # the ssl module does not say which file it could not read
        missing = next((f for f in (domain.certificate, domain.private_key, domain.ca_list, domain.crl) if f and not Path(f).is_file()), "")
        reason = f"cannot read {missing}" if missing else getattr(err, "reason", None) or getattr(err, "strerror", None) or err
        raise ConfigError(f"tls: {domain.where}: {domain.title}: {reason}") from None
    return context


class Domains:
    """All sections, with their contexts. ``find_server`` and ``find_client`` say which one counts."""

    def __init__(self, sections: list[Domain], keylog: str = "") -> None:
        self.sections = sections
        for section in sections:
            section.context = build(section, keylog)
            if section.side == "server":
                section.context.sni_callback = self._named

    def _of(self, side: str) -> Iterator[Domain]:
        return (d for d in self.sections if d.side == side)

    def find_server(self, address: tuple[str, int]) -> Domain | None:
        """The section of one of our sockets, before a name is known."""
        exact = next((d for d in self._of("server") if d.address == address and not d.server_name), None)
        return exact or next((d for d in self._of("server") if d.kind == "default"), None)

    def find_client(self, remote: tuple[str, int], name: str = "", ident: str = "") -> Domain | None:
        """The section for a peer: by server_id, then by address and name, else the default one."""
        if ident:
            found = next((d for d in self._of("client") if d.server_id == ident), None)
            if found is not None:
                return found
        for d in self._of("client"):
            if d.address == remote and (not d.server_name or d.answers_to(name)):
                return d
        named = next((d for d in self._of("client") if d.kind == "any" and d.answers_to(name)), None) if name else None
        return named or next((d for d in self._of("client") if d.kind == "default"), None)

    def _named(self, sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """The client asks for a name (RFC 6066 section 3): another section may be meant for it."""
        if name is None:
            return
        if isinstance(sock, TlsSocket):
            sock.asked = name
        own = next((d for d in self.sections if d.context is context), None)
        for d in self._of("server"):
            here = d.address is None or (own is not None and d.address == own.address)
            if here and d.answers_to(name) and d.context is not None:
                sock.context = d.context
                return
