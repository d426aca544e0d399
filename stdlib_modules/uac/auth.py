"""Answers to challenges, on behalf of the caller (``uac_auth``) and for requests of our own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from kamc.declare import Routes, function, modparam
from kamc.declare.values import to_str
from kamc.runtime.context import Ctx
from kamc.runtime.sip.build import blank_line
from kamc.runtime.sip.digest import credentials, ha1, parse_digest, supported
from kamc.runtime.sip.message import SipMessage

_ROUTES: Final = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH_FAILURE | Routes.EVENT
#: status → (header of the challenge, header of the answer)
HEADERS: Final = {401: ("www-authenticate", "Authorization"), 407: ("proxy-authenticate", "Proxy-Authorization")}


@dataclass(frozen=True, slots=True)
class Credential:
    """``hashed``: the password is HA1 already."""

    user: str
    realm: str
    password: str
    hashed: bool = False

    def secret(self, algorithm: str) -> str:
        return self.password if self.hashed else ha1(self.user, self.realm, self.password, algorithm)


def challenges(reply: SipMessage) -> list[dict[str, str]]:
    """The Digest challenges of a 401 or 407 that can be answered, in order."""
    names = HEADERS.get(reply.status)
    found = [parse_digest(h[2]) for h in reply.headers if names is not None and h[1].lower() == names[0]]
    return [c for c in found if c is not None and c.get("nonce") and supported(c.get("algorithm", ""))]


def answer_to(reply: SipMessage, known: list[Credential], method: str, uri: str, body: str) -> str | None:
    """The header line that answers a reply, with the first credential that fits a challenge; None where none does. An empty realm in a
    credential fits any."""
    for challenge in challenges(reply):
        realm = challenge.get("realm", "")
        for credential in known:
            if credential.realm in ("", realm):
                fitting = Credential(credential.user, realm, credential.password, credential.hashed)
                value = credentials(challenge, fitting.user, fitting.secret(challenge.get("algorithm", "")), method, uri, cnonce=secrets.token_hex(8), body=body)
                return f"{HEADERS[reply.status][1]}: {value}\r\n"
    return None


class AuthFunctions:
    rt: Any
    p: Any
    credentials: list[Credential]

    @modparam("credential")
    def set_credential(self, text: str) -> None:
        """``user:realm:password``."""
        parts = text.split(":", 2)
        if len(parts) != 3 or not parts[0]:
            raise ValueError(f"{text!r}: not user:realm:password")
        self.credentials.append(Credential(parts[0], parts[1], parts[2]))

    def _known(self, ctx: Ctx, hashed: bool) -> list[Credential]:
        """Those of the AVPs first, then those of the configuration."""
        names = (self.p.auth_username_avp, self.p.auth_realm_avp, self.p.auth_password_avp)
        if not all(names):
            return self.credentials
        values = [self.rt.pv(name)(ctx) for name in names]
        if any(v is None for v in values):
            return self.credentials
        user, realm, password = (to_str(v) for v in values)
        return [Credential(user, realm, password, hashed), *self.credentials]

    @function(_ROUTES)
    def uac_auth_mode(self, ctx: Ctx, vmode: int) -> int:
        return self.uac_auth(ctx, vmode)

    @function(_ROUTES)
    def uac_auth(self, ctx: Ctx, mode: int = 0) -> int:
        """Put the answer to a 401 or 407 into the request; t_relay() then sends it in a new branch. With mode 1 the password is HA1."""
        reply = self._challenged(ctx)
        if reply is None:
            self.rt.log.error("uac_auth: there is no 401 or 407 to answer")
            return -1
        msg = ctx.msg
        line = answer_to(reply, self._known(ctx, mode == 1), msg.method, ctx.ruri, msg.body)
        if line is None:
            self.rt.log.error("uac_auth: no credentials for what was asked")
            return -1
        at = msg.body_start - blank_line(msg)
        ctx.add_edit(at, at, line)
        ctx.ruri_used = False
        dialogs = self.rt.module("dialog")
        if dialogs is not None:
            dialogs.authenticated(ctx)
        return 1

    @staticmethod
    def _challenged(ctx: Ctx) -> SipMessage | None:
        t = ctx.t
        if t is None:
            return None
        if 0 <= ctx.branch_index < len(t.branches):
            reply: SipMessage | None = t.branches[ctx.branch_index].reply
            if reply is not None and reply.status in HEADERS:
                return reply
        return next((b.reply for b in reversed(t.branches) if b.reply is not None and b.reply.status in HEADERS), None)
