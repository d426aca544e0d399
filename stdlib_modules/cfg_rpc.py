"""Module cfg_rpc: reading and changing runtime variables by RPC. https://www.kamailio.org/docs/modules/stable/modules/cfg_rpc.html

Custom globals, those of the core and of modules that are loaded, and instances of groups (``group[id]``). A change holds in all workers, also in one that starts
later, and over a reload unless the configuration says something else now. Two changes of one variable may wait for one commit: the later one counts.
``cfg.reset`` of a group with texts works (it ends 5.6.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from kamc.declare import Module, Spread, rpc
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.settings import Settings, Value

#: what Kamailio stores in another form than it was given, and therefore does not show
_UNREADABLE: Final = {
    "core": {"dns_cache_mem", "dns_reinit", "dns_try_ipv6", "dst_blocklist_mem", "log_facility", "mem_dump_shm", "udp4_raw", "udp4_raw_ttl", "use_dns_cache",
             "use_dns_failover", "use_dst_blocklist"},
    "tcp": {"connect_timeout", "connection_lifetime", "max_connections", "max_tls_connections", "send_timeout"},
    "tm": {"cancel_b_method", "fr_inv_timer", "fr_timer", "max_inv_lifetime", "max_noninv_lifetime", "reparse_on_dns_failover", "retr_timer1", "retr_timer2", "wt_timer"},
    "siputils": {"ring_timeout"}, "dbg": {"mod_facility_mode", "mod_level_mode"},
}  # fmt: skip
_GROUP: Final = re.compile(r"(.*?)(?:\[(.*)\])?")
#: a variable: group, number of the instance or None, name
Key = tuple[str, int | None, str]


def group_of(text: str) -> tuple[str, int | None]:
    """``group`` or ``group[id]``. Raises RpcFault."""
    found = _GROUP.fullmatch(text)
    assert found is not None
    group, number = found.groups()
    if number is None:
        return group, None
    if not number.isdecimal():
        raise RpcFault(400, 'Wrong group syntax. Use either "group", or "group[id]"')
    return group, int(number)


def instance_of(text: str) -> tuple[str, int]:
    """``group[id]``. Raises RpcFault."""
    group, number = group_of(text)
    if number is None:
        raise RpcFault(400, 'Wrong group syntax. Use "group[id]"')
    return group, number


class CfgRpc(Module):
    name = "cfg_rpc"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.settings: Settings = rt.settings
        #: what was changed: the value, and what the configuration says; None: nothing
        self.changed: dict[Key, tuple[Value | None, Value | None]] = {}
        #: instances that were added (true) or removed
        self.instances: dict[tuple[str, int], bool] = {}
        #: changes that wait for a commit; None takes an instance's own value away
        self.delayed: dict[Key, Value | None] = {}

    def activate(self, previous: Any) -> None:
        if previous is not None:
            self.take(*previous.state())

    def child_init(self) -> None:
        if self.rt.previous is None and not self.rt.beginning:
            self.rt.tell_peers(self.name, "share")

    def state(self) -> tuple[Any, ...]:
        """What was changed, as plain data."""
        return [[list(key), *values] for key, values in self.changed.items()], [[*key, there] for key, there in self.instances.items()]

    def share(self) -> None:
        """For a worker that has just begun."""
        self.rt.tell_peers(self.name, "take", *self.state())

    def take(self, changed: list[Any], instances: list[Any]) -> None:
        """What was changed elsewhere, or before a reload."""
        for group, number, there in instances:
            (self._add if there else self._remove)(group, number)
        for (group, number, name), value, declared in changed:
            if self._own(group, number, name) == declared and self.settings.names(group):
                self._apply((group, number, name), value)

    # -- variables -------------------------------------------------------------------------------------------------------

    def _exists(self, group: str, number: int | None) -> bool:
        return number is None or (group, number) in self.settings.instances

    def _value(self, group: str, number: int | None, name: str) -> Value:
        """Raises RpcFault."""
        known = name in self.settings.names(group)
        found = self.settings.read(group, name, number)
        if known and (found is None or name in _UNREADABLE.get(group, ())):
            raise RpcFault(400, "Variable exists, but it is not readable via RPC interface")
        if found is None or not self._exists(group, number):
            raise RpcFault(400, "Failed to get the variable")
        return found

    def _own(self, group: str, number: int | None, name: str) -> Value | None:
        """The value of a group, or what an instance has of its own."""
        if number is None:
            return self.settings.read(group, name)
        return self.settings.instances.get((group, number), {}).get(name)

    def _checked(self, text: str, name: str, value: Value) -> tuple[Key, Value]:
        """A change that can be made. Raises RpcFault."""
        group, number = group_of(text)
        try:
            if not self._exists(group, number):
                raise ValueError(f"there is no {text}")
            return (group, number, name), self.settings.converted(group, name, value)
        except ValueError as err:
            self.rt.log.error("cfg_rpc: %s", err)
            raise RpcFault(400, "Failed to set the variable") from None

    def _apply(self, key: Key, value: Value | None) -> None:
        """Make a change; None takes the own value of an instance away."""
        group, number, name = key
        before = self.changed[key][1] if key in self.changed else self._own(*key)
        if value is not None:
            self.settings.change(group, name, value, number)
        elif number is not None:
            self.settings.instances[group, number].pop(name, None)
        self.changed[key] = value, before

    # -- commands: values ------------------------------------------------------------------------------------------------

    @rpc("cfg.get")
    def rpc_get(self, group: str, name: str | None = None) -> Value | dict[str, Value]:
        """GROUP [NAME]: a value, or all of a group."""
        plain, number = group_of(group)
        if name is not None:
            return self._value(plain, number, name)
        if not self._exists(plain, number):
            raise RpcFault(400, "Failed to get the variable")
        found = {n: self.settings.read(plain, n, number) for n in self.settings.names(plain) if n not in _UNREADABLE.get(plain, ())}
        return {n: value if value != "" else "<null string>" for n, value in found.items() if value is not None}

    @rpc("cfg.set", "cfg.set_now_int", "cfg.set_now_string", "cfg.seti", "cfg.sets", spread=Spread.EVERY)
    def rpc_set(self, group: str, name: str, value: Value) -> str:
        """GROUP NAME VALUE: set at once; a value is taken as the variable has it."""
        self._apply(*self._checked(group, name, value))
        return ""

    @rpc("cfg.del", spread=Spread.EVERY)
    def rpc_del(self, group: str, name: str) -> str:
        """GROUP[ID] NAME: the instance has no value of its own any more."""
        self._apply(self._in_instance(group, name), None)
        return ""

    def _in_instance(self, text: str, name: str) -> Key:
        group, number = instance_of(text)
        if not self._exists(group, number) or name not in self.settings.names(group):
            raise RpcFault(400, "Failed to delete the value")
        return group, number, name

    @rpc("cfg.reset", spread=Spread.EVERY)
    def rpc_reset(self, group: str, name: str = "") -> str:
        """GROUP [NAME]: back to what the configuration says; a group that is none has nothing to set back."""
        plain, number = group_of(group)
        for key in [k for k in self.changed if k[:2] == (plain, number) and (not name or k[2] == name)]:
            self._apply(key, self.changed[key][1])
            del self.changed[key]
        return ""

    # -- commands: changes that wait -------------------------------------------------------------------------------------

    @rpc("cfg.set_delayed", "cfg.set_delayed_int", "cfg.set_delayed_string", spread=Spread.EVERY)
    def rpc_delay(self, group: str, name: str, value: Value) -> str:
        """GROUP NAME VALUE: set with the next commit."""
        key, converted = self._checked(group, name, value)
        self.delayed[key] = converted
        return ""

    @rpc("cfg.del_delayed", spread=Spread.EVERY)
    def rpc_del_delayed(self, group: str, name: str) -> str:
        """GROUP[ID] NAME: take an instance's own value away with the next commit."""
        self.delayed[self._in_instance(group, name)] = None
        return ""

    @rpc("cfg.commit", spread=Spread.EVERY)
    def rpc_commit(self) -> str:
        """Make the changes that wait."""
        for key, value in self.delayed.items():
            if self._exists(key[0], key[1]):
                self._apply(key, value)
        self.delayed.clear()
        return ""

    @rpc("cfg.rollback", spread=Spread.EVERY)
    def rpc_rollback(self) -> str:
        """Forget the changes that wait."""
        self.delayed.clear()
        return ""

    @rpc("cfg.diff")
    def rpc_diff(self) -> list[dict[str, Any]]:
        """Changes that wait for a commit: those of groups, then those of instances."""
        return list(self._waiting())

    def _waiting(self) -> Iterator[dict[str, Any]]:
        read = self.settings.read
        for group, number, name in sorted(self.delayed, key=lambda k: -1 if k[1] is None else k[1]):
            new = self.delayed[group, number, name]
            yield {"group name": group, **({"group id": number} if number is not None else {}), "variable name": name, "old value": read(group, name, number),
                   "new value": read(group, name) if new is None else new}  # fmt: skip

    # -- commands: instances ---------------------------------------------------------------------------------------------

    def _add(self, group: str, number: int) -> None:
        self.settings.instances.setdefault((group, number), {})
        self.instances[group, number] = True

    def _remove(self, group: str, number: int) -> None:
        self.settings.instances.pop((group, number), None)
        self.instances[group, number] = False
        for kept in (self.changed, self.delayed):
            for key in [k for k in kept if k[:2] == (group, number)]:
                kept.pop(key)

    @rpc("cfg.add_group_inst", spread=Spread.EVERY)
    def rpc_add(self, group: str) -> str:
        """GROUP[ID]: an instance, with the values of its group."""
        plain, number = instance_of(group)
        if not self.settings.names(plain):
            raise RpcFault(400, "Failed to add the group instance")
        self._add(plain, number)
        return ""

    @rpc("cfg.del_group_inst", spread=Spread.EVERY)
    def rpc_remove(self, group: str) -> str:
        """GROUP[ID]: take an instance away."""
        plain, number = instance_of(group)
        if not self._exists(plain, number):
            raise RpcFault(400, "Failed to delete the group instance")
        self._remove(plain, number)
        return ""

    # -- commands: what there is -----------------------------------------------------------------------------------------

    @rpc("cfg.list")
    def rpc_list(self, group: str = "") -> list[str]:
        """[GROUP]: names of all variables."""
        return [f"{one}: {name}" for one in ([group] if group else self.settings.groups()) for name in self.settings.names(one)]

    @rpc("cfg.help")
    def rpc_help(self, group: str, name: str) -> str:
        """GROUP NAME: what the configuration says of a variable, and its type."""
        settings = self.settings
        plain, _ = group_of(group)
        if name not in settings.names(plain):
            raise RpcFault(400, "Failed to get the variable description")
        text = settings.descriptions.get((plain, name), "<null string>" if (plain, name) in settings.custom else f"{plain}.{name}")
        return f"{text}\n(parameter type is {'string' if isinstance(settings.read(plain, name), str) else 'integer'})"


module = CfgRpc
