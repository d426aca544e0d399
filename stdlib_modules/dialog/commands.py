"""RPC commands ``dlg.*``, with the fields of Kamailio 5.6.3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kamc.declare import Spread, rpc
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.dialog.model import ANSWERED, CALLEE, CALLER, CONFIRMED, DELETED, EARLY, UNCONFIRMED, Dialog, Leg
from stdlib_modules.dialog.profiles import ProfileFunctions
from stdlib_modules.dialog.requests import RequestFunctions

_KEYS: dict[str, Callable[[Dialog], str]] = {
    "ruri": lambda d: d.ruri, "furi": lambda d: d.from_uri, "turi": lambda d: d.to_uri, "callid": lambda d: d.call_id, "ftag": lambda d: d.caller.tag,
    "ttag": lambda d: d.callee.tag if d.callee else "", "start_ts": lambda d: str(int(d.started)),
}  # fmt: skip
_STATES = {"u": UNCONFIRMED, "e": EARLY, "a": ANSWERED, "c": CONFIRMED, "d": DELETED}


def _leg(leg: Leg | None) -> dict[str, Any]:
    if leg is None:
        return dict.fromkeys(("tag", "contact", "cseq", "route_set", "socket"))
    return {"tag": leg.tag, "contact": leg.contact, "cseq": str(leg.cseq), "route_set": ",".join(leg.routes), "socket": str(leg.socket) if leg.socket else ""}


def row(d: Dialog, now: float) -> dict[str, Any]:
    """A dialog as RPC shows it at a wall-clock second."""
    return {
        "h_entry": d.entry, "h_id": d.id, "ref": 1 if d.state in (UNCONFIRMED, EARLY, DELETED) else 2, "call-id": d.call_id, "from_uri": d.from_uri,
        "to_uri": d.to_uri, "state": d.state, "start_ts": int(d.started), "init_ts": int(d.created), "end_ts": int(d.ended),
        "duration": int((d.ended or now) - d.started) if d.started else 0, "timeout": int(d.ends_at), "lifetime": d.lifetime, "dflags": d.dflags,
        "sflags": d.sflags, "iflags": d.iflags, "caller": _leg(d.caller), "callee": _leg(d.callee),
        "profiles": [{name: value} if value else name for name, value in reversed(d.profiles)],
        "variables": [{name: value} for name, value in reversed(d.variables.items())],
    }  # fmt: skip


def _brief(d: Dialog, fields: str) -> dict[str, Any]:
    known: dict[str, tuple[str, Any]] = {
        "f": ("from_uri", d.from_uri), "t": ("to_uri", d.to_uri), "c": ("call-id", d.call_id), "F": ("from_tag", d.caller.tag),
        "T": ("to_tag", d.callee.tag if d.callee else None), "s": ("state", d.state), "S": ("start_ts", int(d.started)),
    }  # fmt: skip
    return {"h_entry": d.entry, "h_id": d.id, **dict(known[letter] for letter in fields if letter in known)}


class Commands(ProfileFunctions, RequestFunctions):
    @rpc("dlg.list", "dlg.list_ctx", spread=Spread.JOIN)
    def rpc_list(self) -> list[dict[str, Any]]:
        """All dialogs."""
        return [row(d, self.rt.wall_time()) for d in self.table]

    @rpc("dlg.dump_file", spread=Spread.EVERY)
    def rpc_dump(self, file: str) -> None:
        """Write all dialogs into a file, one JSON object per line."""
        try:
            with open(file, "w", encoding="utf-8") as out:
                for d in self.table:
                    line = {k.replace("-", "_"): v for k, v in row(d, 0).items() if k != "duration"}
                    line |= {"profiles": dict(reversed(d.profiles)), "variables": dict(reversed(d.variables.items()))}
                    out.write(json.dumps(line, separators=(",", ":")) + "\n")
        except OSError as err:
            raise RpcFault(500, f"cannot write {file}: {err.strerror or err}") from None

    @rpc("dlg.briefing", spread=Spread.JOIN)
    def rpc_briefing(self, fields: str = "ftcFT") -> list[dict[str, Any]]:
        """All dialogs, short, by the letters of fields: f and t for the URIs of From and To, F and T for their tags, c for the Call-ID, s for state, S for start."""
        return [_brief(d, fields) for d in self.table]

    @rpc("dlg.dlg_list", "dlg.dlg_list_ctx", spread=Spread.JOIN)
    def rpc_dlg_list(self, callid: str, from_tag: str = "") -> dict[str, Any] | None:
        """One dialog; nothing where there is none."""
        return next((row(d, self.rt.wall_time()) for d in self.table.by_call.get(callid, ()) if not from_tag or d.caller.tag == from_tag), None)

    @rpc("dlg.list_match", "dlg.list_match_ctx", spread=Spread.JOIN, wrong="Invalid parameters")
    def rpc_match(self, key: str, operator: str, value: str, limit: int = 0) -> list[dict[str, Any]]:
        """Dialogs whose field (ruri, furi, turi, callid, ftag, ttag, start_ts) is eq, ne, sw, re, gt or lt VALUE."""
        read = _KEYS.get(key)
        if read is None:
            raise RpcFault(500, "Invalid matching key parameter")
        tests: dict[str, Callable[[str], bool]] = {
            "eq": lambda v: v == value, "ne": lambda v: v != value, "sw": lambda v: v.startswith(value), "re": lambda v: bool(self.rt.dynamic_regex(value).test(v)),
            "gt": lambda v: v.isdigit() and value.isdigit() and int(v) > int(value), "lt": lambda v: v.isdigit() and value.isdigit() and int(v) < int(value),
        }  # fmt: skip
        if operator not in tests:
            raise RpcFault(500, "Invalid matching operator parameter")
        found = [row(d, self.rt.wall_time()) for d in self.table if tests[operator](read(d))]
        if not found:
            raise RpcFault(404, "Not found")
        return found[:limit] if limit > 0 else found

    def _dialog(self, entry: int, ident: int) -> Dialog:
        found: Dialog | None = self.table.by_id.get((int(entry), int(ident)))
        if found is None:
            raise RpcFault(404, "Dialog not found")
        return found

    @rpc("dlg.end_dlg", spread=Spread.EVERY)
    def rpc_end(self, h_entry: int, h_id: int, headers: str = "") -> None:
        """Hang up both sides."""
        dialog = self._dialog(h_entry, h_id)
        if dialog.state not in (ANSWERED, CONFIRMED):
            raise RpcFault(500, "The dialog is not answered")
        if not self.send_bye(dialog, (CALLEE, CALLER), headers):
            raise RpcFault(500, "Failed to end the dialog")

    def _named(self, callid: str, from_tag: str, to_tag: str) -> Dialog | None:
        found = self.table.find(callid, from_tag, to_tag)
        return found[0] if found is not None else None

    @rpc("dlg.terminate_dlg", spread=Spread.EVERY)
    def rpc_terminate(self, callid: str, from_tag: str, to_tag: str, headers: str = "") -> None:
        """Hang up both sides."""
        dialog = self._named(callid, from_tag, to_tag)
        if dialog is None or dialog.state not in (ANSWERED, CONFIRMED):
            raise RpcFault(500, "Couldnt find callid in dialog")
        self.send_bye(dialog, (CALLEE, CALLER), headers)

    @rpc("dlg.is_alive", spread=Spread.EVERY)
    def rpc_alive(self, *names: str) -> str:
        """Whether a dialog is confirmed, by Call-ID and tags."""
        if len(names) < 3:
            raise RpcFault(400, "Too few parameters (required callid, from-tag, to-tag)")
        dialog = self._named(*names[:3])
        if dialog is None:
            raise RpcFault(404, "Dialog not found")
        if dialog.state != CONFIRMED:
            raise RpcFault(500, "Dialog not in confirmed state")
        return "Alive"

    @rpc("dlg.set_state", spread=Spread.EVERY)
    def rpc_set_state(self, *params: Any) -> None:
        """Put a dialog (Call-ID and tags) into a state: u, e, a, c or d."""
        if len(params) < 4:
            raise RpcFault(400, "Need the callid, from tag,to tag and state")
        dialog = self._named(*(str(p) for p in params[:3]))
        if dialog is None:
            raise RpcFault(404, "Dialog not found")
        state = _STATES.get(str(params[3])[:1])
        if state is None:
            raise RpcFault(500, "Invalid state value")
        self.move(dialog, state)

    @rpc("dlg.stats_active", spread=Spread.SUM)
    def rpc_stats(self) -> dict[str, int]:
        """Numbers of dialogs by state."""
        states = [d.state for d in self.table]
        names = {"starting": UNCONFIRMED, "connecting": EARLY, "answering": ANSWERED, "ongoing": CONFIRMED}
        counts = {name: states.count(state) for name, state in names.items()}
        return {**counts, "all": sum(counts.values())}

    @rpc("dlg.bridge_dlg", wrong="Invalid parameters")
    def rpc_bridge(self, caller: str, callee: str, proxy: str = "") -> None:
        """Call one party and refer it to another."""
        if not self.bridge(caller, callee, proxy):
            raise RpcFault(500, "Cannot call the first party")

    def _profile(self, name: str) -> None:
        if name not in self.profiles:
            raise RpcFault(404, f"Profile not found: {name}")

    @rpc("dlg.profile_get_size")
    def rpc_profile_size(self, profile: str, value: str | None = None) -> int:
        """How many dialogs a profile counts."""
        self._profile(profile)
        return self.profile_size(profile, value)

    @rpc("dlg.profile_list", spread=Spread.JOIN)
    def rpc_profile_list(self, profile: str, value: str | None = None) -> list[dict[str, Any]]:
        """The dialogs of a profile."""
        self._profile(profile)
        return [row(d, self.rt.wall_time()) for d in self.members(profile, value)]



