"""SUBSCRIBE (RFC 6665), and who may watch whom."""

from __future__ import annotations

from dataclasses import replace

from kamc.declare import Routes, function
from kamc.runtime.context import Ctx
from kamc.runtime.sip.addr import parse_addr
from stdlib_modules.presence.packages import ACTIVE, PENDING, TERMINATED, Package
from stdlib_modules.presence.publish import Publications, aor
from stdlib_modules.presence.rows import Subscription, split_uri


class Subscriptions(Publications):

    @function(Routes.REQUEST, waits=True)
    def handle_subscribe(self, ctx: Ctx, watcher_uri: str = "") -> int:
        """Begin, refresh or end a subscription to the R-URI, answer, and tell the state. -1 when it was refused."""
        return self.answered(ctx, lambda: self._subscribe(ctx, watcher_uri))

    def _subscribe(self, ctx: Ctx, watcher_uri: str) -> None:
        package, ident = self.package_of(ctx)
        expires = self.expires_of(ctx, package)
        address = ctx.msg.address("contact")
        if address is None or not address.uri:
            raise self.refuse(ctx, 400, "Bad request")
        if ctx.msg.to_tag:
            self._refresh(ctx, package, expires, address.uri)
            return
        s = self._new(ctx, package, ident, expires, address.uri, watcher_uri)
        status, reason = self.standing(package, s.uri, s.watcher)
        s = replace(s, status=status, reason=reason)
        ctx.remember("presence subscription", s)
        if expires and status != TERMINATED:
            self._keep(replace(s, local_cseq=1))
        self._accept(ctx, s, expires)
        if not expires:
            self.notify(replace(s, status=TERMINATED, reason=reason if status == TERMINATED else "timeout"))
            return
        if status == TERMINATED:
            self.notify(s)
            return
        self.notify(replace(s, local_cseq=1))
        self.tell_of_watcher(s)

    def _keep(self, s: Subscription) -> None:
        if self.p.delete_same_subs:
            for other in self.records.watching(s.uri, s.event):
                if (other.contact, other.watcher) == (s.contact, s.watcher):
                    self.records.change(other, lambda now: None)
        self.records.add(s)

    def _new(self, ctx: Ctx, package: Package, ident: str, expires: int, contact: str, watcher_uri: str) -> Subscription:
        msg = ctx.msg
        uri = aor(ctx.ruri)
        sender, target = msg.address("from"), msg.address("to")
        watcher = aor(watcher_uri) if watcher_uri else aor(sender.uri) if sender is not None else None
        source, to = aor(sender.uri) if sender is not None else None, aor(target.uri) if target is not None else None
        if uri is None or watcher is None or source is None or to is None:
            raise self.refuse(ctx, 400, "Bad request")
        tag = self.rt.tm.to_tag(ctx) if self.rt.module("tm").current(ctx) is not None else self.rt.totag(msg)
        agent = msg.first.get("user-agent")
        return Subscription(
            uri, package.name, ident, *split_uri(to), *split_uri(watcher), *split_uri(source), msg.call_id, tag, msg.from_tag, contact,
            self.own_contact(ctx), str(ctx.flow.listener), ", ".join(h[2] for h in msg.all("record-route")), remote_cseq=msg.cseq[0],
            expires=self.rt.wall_time() + expires, user_agent=agent[2].strip() if agent is not None else "",
        )  # fmt: skip

    def own_contact(self, ctx: Ctx) -> str:
        """Where requests of the dialog come to."""
        given = str(self.p.server_address)
        if given:
            return parse_uri_text(given)
        listener = ctx.flow.listener
        return f"sip:{listener.via_host}:{listener.via_port};transport={ctx.flow.proto}"

    def _accept(self, ctx: Ctx, s: Subscription, expires: int) -> None:
        code = 200 if self.p.subs_respond_200 or self.packages[s.event].is_winfo else 202
        self.answer(ctx, code, "OK", f"Expires: {expires}", f"Contact: <{s.local_contact}>")

    def _refresh(self, ctx: Ctx, package: Package, expires: int, contact: str) -> None:
        msg = ctx.msg
        known = self.records.in_dialog(msg.call_id, msg.to_tag, msg.from_tag)
        if known is None or known.event != package.name or known.expires <= self.rt.wall_time():
            raise self.refuse(ctx, 481, "Subscription does not exist")
        if msg.cseq[0] <= known.remote_cseq:
            self.rt.log.error("presence: CSeq %d of %s after %d", msg.cseq[0], known.watcher, known.remote_cseq)
            raise self.refuse(ctx, 400, "Bad request")
        status, reason = self.standing(package, known.uri, known.watcher)
        until = self.rt.wall_time() + expires

        def changed(now: Subscription) -> Subscription | None:
            if not expires or status == TERMINATED:
                return None
            return replace(now, contact=contact, remote_cseq=msg.cseq[0], expires=until, status=status, reason=reason)

        s = self.records.change(known, changed)
        self._accept(ctx, known, expires)
        if s is None:
            over = replace(known, contact=contact, status=TERMINATED, reason=reason if status == TERMINATED else "timeout")
            ctx.remember("presence subscription", over)
            self.notify(over)
            self.tell_of_watcher(over)
            return
        ctx.remember("presence subscription", s)
        self.notify(s)
        if s.status != known.status:
            self.tell_of_watcher(s)

    # -- who may watch ---------------------------------------------------------------------------------------------------

    def standing(self, package: Package, uri: str, watcher: str) -> tuple[int, str]:
        """The state that a watcher's subscription has, by the rules of the presentity."""
        if package.is_winfo or package.decide is None or package.rules is None:
            return ACTIVE, ""
        found = package.decide(package.rules(*split_uri(uri)), watcher)
        self.records.set_standing(uri, package.name, watcher, found)
        return found

    def decide_again(self, package: Package, uri: str) -> int:
        """The rules may have changed: watchers whose state does are told. How many watchers there are; -1 without rules."""
        if package.decide is None or package.rules is None or package.rules(*split_uri(uri)) is None:
            return -1
        watching = self.records.watching(uri, package.name)
        rejected = [(w, state) for w, state in self._standings(uri, package.name) if state[0] != ACTIVE]
        for s in watching:
            status, reason = self.standing(package, uri, s.watcher)
            if (status, reason) == (s.status, s.reason):
                continue
            changed = self.records.change(s, lambda now, to=(status, reason): None if to[0] == TERMINATED else replace(now, status=to[0], reason=to[1]))  # type: ignore[misc]
            told = changed if changed is not None else replace(s, status=status, reason=reason)
            self.notify(told)
            self.tell_of_watcher(told)
        return max(len(watching), len(rejected))

    def _standings(self, uri: str, event: str) -> list[tuple[str, tuple[int, str]]]:
        begin = f"{uri}\0{event}\0"
        return [(key.removeprefix(begin), (value[0], value[1])) for key, value in self.records.watchers.scan() if key.startswith(begin)]

    def status_of(self, watcher: str, uri: str) -> int:
        """ACTIVE, PENDING, TERMINATED or WAITING."""
        package = self.packages.get("presence")
        if package is None or package.rules is None or package.decide is None:
            return PENDING
        rules = package.rules(*split_uri(uri))
        return package.decide(rules, watcher)[0] if rules is not None else PENDING


def parse_uri_text(text: str) -> str:
    """The URI of ``<sip:...>`` or ``sip:...``."""
    found = parse_addr(text)
    return found.uri if found is not None else text
