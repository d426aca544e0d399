"""Module auth: Digest challenges and checks with passwords that the script has (RFC 3261 section 22, RFC 2617, RFC 8760).

A nonce carries its time of expiry and a MAC, so nothing is stored for it until it is used. With ``nonce_count`` each count of a nonce is good
once, with ``one_time_nonce`` each nonce.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

from kamc.declare import Module, Routes, function
from kamc.declare.argtypes import PvArg
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.digest import Answer, ha1, parse_digest, supported
from kamc.runtime.sip.message import Header, SipMessage
from kamc.runtime.sip.uri import parse_uri

# what the checking functions return
OK: Final = 1
ERROR: Final = -1
BAD_PASSWORD: Final = -2
STALE: Final = -4
NO_CREDENTIALS: Final = -5
REUSED: Final = -6
OTHER_USER: Final = -8

_CHALLENGES: Final = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY
#: of a challenge
_QOP_AUTH, _QOP_AUTH_INT, _STALE_FLAG = 1, 2, 16
#: header of the credentials → (status, reason)
_KINDS: Final = {"authorization": (401, "Unauthorized"), "proxy-authorization": (407, "Proxy Authentication Required")}
_MAC: Final = 32
#: digits of a nonce count (RFC 2617 section 3.2.2), and the highest that Kamailio keeps
_COUNT_DIGITS: Final = 8
_MOST_COUNTS: Final = 255


@dataclass(frozen=True, slots=True)
class Given:
    """Credentials of a request and the header that brought them."""

    parts: dict[str, str]
    header: Header

    @property
    def user(self) -> str:
        """The user without its domain."""
        return self.parts.get("username", "").partition("@")[0]


class Auth(Module):
    name = "auth"
    depends = ("sl",)
    kept = ("serial",)
    tuning_params = ("nc_array_size", "nc_array_order", "otn_in_flight_no", "otn_in_flight_order", "nid_pool_no")
    # the last two change nothing in Kamailio 5.6 either
    ignored_params = ("challenge_attr", "protect_contacts", "use_domain")

    class Params:
        secret: str = ""
        nonce_expire: int = 300
        nonce_auth_max_drift: int = 3
        auth_checks_register: int = 0
        auth_checks_no_dlg: int = 0
        auth_checks_in_dlg: int = 0
        proxy_challenge_header: str = "Proxy-Authenticate"
        www_challenge_header: str = "WWW-Authenticate"
        qop: str = ""
        nonce_count: int = 0
        one_time_nonce: int = 0
        force_stateless_reply: int = 0
        realm_prefix: str = ""
        algorithm: str = ""
        add_authinfo_hdr: int = 0

    def mod_init(self) -> None:
        if self.p.algorithm and not supported(self.p.algorithm):
            raise ConfigError(f"auth: algorithm {self.p.algorithm!r} is not known: MD5, SHA-256 and SHA-512-256 are")
        if self.p.nonce_expire <= 0:
            raise ConfigError("auth: nonce_expire is a number of seconds above 0")
        self.key = (self.p.secret or f"nonces of {self.rt.worker.secret}").encode()
        self.serial = secrets.randbits(32)
        #: nonce → the highest count that was used
        self.used = self.rt.store.table("auth.nonces")

    def activate(self, previous: Any) -> None:
        """Nonces that were given out stay good, unless the configuration has another secret."""
        super().activate(previous)
        if previous is not None and previous.p.secret == self.p.secret:
            self.key = previous.key

    # -- nonces ----------------------------------------------------------------------------------------------------------

    def _bound(self, msg: SipMessage, source: str) -> str:
        """What of the message a nonce is good for, as ``auth_checks_*`` say: URI 1, Call-ID 2, From tag 4, source address 8."""
        if msg.method == "REGISTER":
            mask = self.p.auth_checks_register
        else:
            mask = self.p.auth_checks_in_dlg if msg.to_tag else self.p.auth_checks_no_dlg
        parts = ((1, msg.uri), (2, msg.call_id), (4, msg.from_tag), (8, source))
        return "\n".join(text for bit, text in parts if mask & bit)

    def _mac(self, head: str, bound: str) -> str:
        return hmac.new(self.key, f"{head}\n{bound}".encode("latin-1", "replace"), hashlib.sha256).hexdigest()[:_MAC]

    def make_nonce(self, ctx: Ctx) -> str:
        self.serial = (self.serial + 1) & 0xFFFFFFFF
        head = f"{int(self.rt.wall_time()) + self.p.nonce_expire:08x}{self.serial:08x}"
        return head + self._mac(head, self._bound(ctx.msg, ctx.flow.remote_ip))

    def _nonce_problem(self, ctx: Ctx, given: Given) -> int:
        """0, or the code that the check returns."""
        nonce = given.parts.get("nonce", "")
        head, mac = nonce[:16], nonce[16:]
        try:
            expires = int(head[:8], 16)
        except ValueError:
            return ERROR
        if not hmac.compare_digest(mac.encode("latin-1", "replace"), self._mac(head, self._bound(ctx.msg, ctx.flow.remote_ip)).encode()):
            return ERROR
        now = self.rt.wall_time()
        if expires < now or expires > now + self.p.nonce_expire + max(0, self.p.nonce_auth_max_drift):
            return STALE
        return self._count_problem(nonce, given, expires)

    def _count_problem(self, nonce: str, given: Given, expires: int) -> int:
        """Each count of a nonce is good once; without a count, or with one_time_nonce, the nonce itself is."""
        counted = self.p.nonce_count and given.parts.get("qop")
        if not counted and not self.p.one_time_nonce:
            return 0
        last = self.used.get(nonce)
        if not counted:
            if last is not None:
                return REUSED
            self.used.put(nonce, 0, expires + 1)
            return 0
        try:
            number = int(given.parts.get("nc", ""), 16)
        except ValueError:
            return ERROR
        if number <= (last or 0) or number > _MOST_COUNTS:
            return STALE
        self.used.put(nonce, number, expires + 1)
        return 0

    # -- challenges ------------------------------------------------------------------------------------------------------

    def challenge_value(self, ctx: Ctx, realm: str, flags: int, algorithm: str = "") -> str:
        """The value of a challenge header."""
        algorithm = algorithm or str(ctx.recall("auth_algorithm") or self.p.algorithm)
        parts = [f'realm="{realm}"', f'nonce="{self.make_nonce(ctx)}"']
        names = [name for bit, name in ((_QOP_AUTH, "auth"), (_QOP_AUTH_INT, "auth-int")) if flags & bit]
        if names:
            parts.append(f'qop="{",".join(names)}"')
        if flags & _STALE_FLAG:
            parts.append("stale=true")
        if algorithm:
            parts.append(f"algorithm={algorithm}")
        return "Digest " + ", ".join(parts)

    def _challenge(self, ctx: Ctx, kind: str, realm: str, flags: int, algorithms: str) -> int:
        if not realm:
            self.rt.log.error("auth: a challenge needs a realm")
            return -1
        header = self.p.www_challenge_header if kind == "authorization" else self.p.proxy_challenge_header
        wanted = [a.strip() for a in algorithms.split(",") if a.strip()] or [""]
        if not all(supported(a) for a in wanted):
            self.rt.log.error("auth: unknown algorithm in %r", algorithms)
            return -1
        lines = [f"{header}: {self.challenge_value(ctx, realm, flags, algorithm)}\r\n" for algorithm in wanted]
        ctx.reply_headers = [*(ctx.reply_headers or []), *lines]
        code, reason = _KINDS[kind]
        sl = self.rt.module("sl")
        send = sl.sl_send_reply if self.p.force_stateless_reply else sl.send_reply
        sent: int = send(ctx, code, reason)
        return sent

    @function(_CHALLENGES)
    def www_challenge(self, ctx: Ctx, realm: str, flags: int, algorithms: str = "") -> int:
        return self._challenge(ctx, "authorization", realm, flags, algorithms)

    @function(_CHALLENGES)
    def proxy_challenge(self, ctx: Ctx, realm: str, flags: int, algorithms: str = "") -> int:
        return self._challenge(ctx, "proxy-authorization", realm, flags, algorithms)

    @function(_CHALLENGES)
    def auth_challenge(self, ctx: Ctx, realm: str, flags: int, algorithms: str = "") -> int:
        """401 for REGISTER, 407 for all other requests."""
        return self._challenge(ctx, self.kind(ctx), realm, flags, algorithms)

    @staticmethod
    def kind(ctx: Ctx) -> str:
        return "authorization" if ctx.msg.method == "REGISTER" else "proxy-authorization"

    @function(Routes.REQUEST)
    def auth_get_www_authenticate(self, ctx: Ctx, realm: str, flags: int, pvdest: PvArg) -> int:
        """A challenge header as a text, for the script to send."""
        if pvdest is None or pvdest.set is None:
            return -1
        pvdest.set(ctx, f"{self.p.www_challenge_header}: {self.challenge_value(ctx, realm, flags)}\r\n")
        return 1

    @function(Routes.REQUEST)
    def auth_algorithm(self, ctx: Ctx, algorithm: str) -> int:
        """The algorithm of the challenges for this request."""
        if not supported(algorithm):
            self.rt.log.error("auth_algorithm: unknown algorithm %r", algorithm)
            return -1
        ctx.remember("auth_algorithm", algorithm)
        return 1

    # -- checks ----------------------------------------------------------------------------------------------------------

    def find(self, msg: SipMessage, kind: str, realm: str) -> Given | None:
        """The credentials for a realm."""
        for header in msg.all(kind):
            parts = parse_digest(header[2])
            if parts is not None and self._same_realm(parts.get("realm", ""), realm):
                return Given(parts, header)
        return None

    def _same_realm(self, given: str, wanted: str) -> bool:
        prefix = self.p.realm_prefix
        return given.removeprefix(prefix) == wanted.removeprefix(prefix) if prefix else given == wanted

    def check(self, ctx: Ctx, given: Given, password: str, *, hashed: bool, method: str = "") -> int:
        """Whether credentials hold. A wrong response uses up its count, too."""
        parts = given.parts
        needed = ("username", "nonce", "uri", "response")
        if not all(parts.get(name) for name in needed) or not supported(parts.get("algorithm", "")):
            return ERROR
        qop = parts.get("qop", "")
        if qop not in ("", "auth", "auth-int") or (qop and not (len(parts.get("nc", "")) == _COUNT_DIGITS and parts.get("cnonce"))):
            return ERROR
        problem = self._nonce_problem(ctx, given)
        if problem:
            return problem
        algorithm = parts.get("algorithm", "")
        secret = password.lower() if hashed else ha1(parts["username"], parts.get("realm", ""), password, algorithm)
        answer = Answer(secret, parts["nonce"], method or ctx.msg.method, parts["uri"], algorithm, qop, parts.get("nc", "") if qop else "",
                        parts.get("cnonce", ""), ctx.msg.body)  # fmt: skip
        if not hmac.compare_digest(answer.response().encode(), parts["response"].lower().encode("latin-1", "replace")):
            return BAD_PASSWORD
        ctx.remember("auth_credentials", given)
        if self.p.add_authinfo_hdr:
            self._add_info(ctx, answer)
        return OK

    def _add_info(self, ctx: Ctx, answer: Answer) -> None:
        """The proof that we know the secret, too, and the nonce to use next, for the replies (RFC 2617 section 3.2.3)."""
        proof = replace(answer, method="").response()
        nonce = self.make_nonce(ctx) if self.p.one_time_nonce else answer.nonce
        line = f'Authentication-Info: nextnonce="{nonce}", qop={answer.qop}, rspauth="{proof}", cnonce="{answer.cnonce}", nc={answer.nc}\r\n'
        ctx.reply_headers = [*(ctx.reply_headers or []), line]

    def given(self, ctx: Ctx, kind: str, realm: str) -> Given | int:
        """The credentials to check, or what the check returns without looking at any."""
        if ctx.msg.method in ("ACK", "CANCEL", "PRACK") and kind == "proxy-authorization":
            return OK  # these cannot be challenged (RFC 3261 section 22.1)
        if not realm:
            self.rt.log.error("auth: a check needs a realm")
            return ERROR
        return self.find(ctx.msg, kind, realm) or NO_CREDENTIALS

    def _authenticate(self, ctx: Ctx, kind: str, realm: str, password: str, flags: int, method: str = "") -> int:
        given = self.given(ctx, kind, realm)
        return given if isinstance(given, int) else self.check(ctx, given, password, hashed=bool(flags & 1), method=method)

    @function(Routes.REQUEST)
    def pv_www_authenticate(self, ctx: Ctx, realm: str, passwd: str, flags: int, method: str = "") -> int:
        """With flag 1 the password is HA1."""
        return self._authenticate(ctx, "authorization", realm, passwd, flags, method)

    @function(Routes.REQUEST)
    def pv_www_authorize(self, ctx: Ctx, realm: str, passwd: str, flags: int) -> int:
        return self._authenticate(ctx, "authorization", realm, passwd, flags)

    @function(Routes.REQUEST, "pv_proxy_authenticate", "pv_proxy_authorize")
    def pv_proxy_authenticate(self, ctx: Ctx, realm: str, passwd: str, flags: int) -> int:
        return self._authenticate(ctx, "proxy-authorization", realm, passwd, flags)

    @function(Routes.REQUEST)
    def pv_auth_check(self, ctx: Ctx, realm: str, passwd: str, flags: int, checks: int) -> int:
        """As the request's kind wants it; ``checks`` 1: the user of From (To for REGISTER) has to be the one of the credentials."""
        return self.check_identity(ctx, self._authenticate(ctx, self.kind(ctx), realm, passwd, flags), checks)

    def check_identity(self, ctx: Ctx, result: int, checks: int) -> int:
        """With bit 1 of ``checks``, credentials that hold have to be those of the user in From (To for REGISTER)."""
        given = ctx.recall("auth_credentials")
        if result != OK or not checks & 1 or given is None:
            return result
        address = ctx.msg.to if ctx.msg.method == "REGISTER" else ctx.msg.from_
        uri = parse_uri(address.uri) if address is not None else None
        return OK if uri is not None and uri.user == given.user else OTHER_USER

    @function(Routes.REQUEST)
    def has_credentials(self, ctx: Ctx, realm: str) -> int:
        return 1 if any(self.find(ctx.msg, kind, realm) is not None for kind in _KINDS) else -1

    @function(Routes.REQUEST)
    def consume_credentials(self, ctx: Ctx) -> int:
        """Take the credentials that were checked out of the request."""
        given: Given | None = ctx.recall("auth_credentials")
        if given is None:
            if ctx.msg.method not in ("ACK", "CANCEL"):
                self.rt.log.error("consume_credentials: no credentials were checked")
            return -1
        ctx.add_edit(given.header[3], given.header[4], "")
        return 1


module = Auth
