"""Module dialplan: numbers translated by rules of a table. https://www.kamailio.org/docs/modules/stable/modules/dialplan.html"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kamc.declare import ANY, Module, Routes, Spread, function, rpc
from kamc.declare.argtypes import Lit, PvArg
from kamc.declare.values import to_int, to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, DbError
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.fault import RpcFault

_EQUAL, _REGEX, _FNMATCH = 0, 1, 2
_COLUMNS = ("dpid", "pr", "match_op", "match_exp", "match_len", "subst_exp", "repl_exp", "attrs")
_REFERENCE = re.compile(r"\\(\d)")


@dataclass(slots=True)
class Rule:
    priority: int
    operator: int
    expression: str
    length: int
    substitution: str
    replacement: str
    attributes: str
    matches: Callable[[str], bool]
    pattern: re.Pattern[str] | None
    #: the replacement, when it has variables
    computed: Callable[[Ctx], str] | None

    def translate(self, ctx: Ctx, text: str) -> str | None:
        """What a text becomes, an empty one for a rule that replaces nothing; None when the substitution does not fit it."""
        replacement = self.computed(ctx) if self.computed is not None else self.replacement
        if self.pattern is None:
            return replacement
        found = self.pattern.search(text)
        if found is None:
            return None
        return _REFERENCE.sub(lambda m: (found[int(m[1])] or "") if int(m[1]) <= found.re.groups else "", replacement)


class Dialplan(Module):
    name = "dialplan"
    tuning_params = ("fetch_rows", "reload_delta")

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        table_name: str = "dialplan"
        dpid_col: str = "dpid"
        pr_col: str = "pr"
        match_op_col: str = "match_op"
        match_exp_col: str = "match_exp"
        match_len_col: str = "match_len"
        subst_exp_col: str = "subst_exp"
        repl_exp_col: str = "repl_exp"
        attrs_col: str = "attrs"
        attrs_pvar: str = ""
        match_dynamic: int = 0
        append_branch: int = 1

    def mod_init(self) -> None:
        self.db: Database = self.rt.database(self.p.db_url)
        self.db.check_version(self.p.table_name, 2)
        self.attrs: BoundPv | None = self.rt.pv_arg(self.p.attrs_pvar) if self.p.attrs_pvar else None
        self.rules: dict[int, list[Rule]] = {}
        try:
            self.load()
        except (DbError, ValueError) as err:
            raise ConfigError(f"dialplan: {err}") from None

    # -- rules -----------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the table. Raises DbError, and ValueError for a rule that cannot be used; the rules are as before then."""
        p = self.p
        columns = (p.dpid_col, p.pr_col, p.match_op_col, p.match_exp_col, p.match_len_col, p.subst_exp_col, p.repl_exp_col, p.attrs_col)
        rules: dict[int, list[Rule]] = {}
        for row in self.db.select(self.p.table_name, columns).rows:
            values = dict(zip(_COLUMNS, row, strict=True))
            rules.setdefault(int(str(values["dpid"])), []).append(self._rule(values))
        for group in rules.values():
            # as RPC lists them: rules for one length first
            group.sort(key=lambda r: (r.length == 0, r.length, r.priority))
        self.rules = rules

    def _rule(self, values: dict[str, Any]) -> Rule:
        text = {k: "" if v is None else str(v) for k, v in values.items()}
        operator, expression = int(text["match_op"]), text["match_exp"]
        try:
            if operator == _EQUAL:
                matches: Callable[[str], bool] = expression.__eq__
            elif operator == _REGEX:
                compiled = re.compile(expression)
                matches = lambda value: compiled.search(value) is not None  # noqa: E731 - one of three kinds
            elif operator == _FNMATCH:
                matches = lambda value: fnmatch.fnmatchcase(value, expression)  # noqa: E731
            else:
                raise ValueError(f"match_op {operator} of rule {expression!r} is not 0, 1 or 2")
            pattern = re.compile(text["subst_exp"]) if text["subst_exp"] else None
        except re.error as err:
            raise ValueError(f"bad regular expression in rule {expression!r}: {err}") from None
        highest = max((int(n) for n in _REFERENCE.findall(text["repl_exp"])), default=0)
        if highest > (pattern.groups if pattern is not None else 0):
            raise ValueError(f"rule {expression!r}: repl_exp refers to group {highest}, which subst_exp does not have")
        computed = self.rt.format(text["repl_exp"]) if self.p.match_dynamic and "$" in text["repl_exp"] else None
        return Rule(int(text["pr"] or 0), operator, expression, int(text["match_len"] or 0), text["subst_exp"], text["repl_exp"], text["attrs"],
                    matches, pattern, computed)  # fmt: skip

    def find(self, ctx: Ctx, dpid: int, text: str) -> tuple[Rule, str] | None:
        """The first rule that fits, and what it makes of the text."""
        for rule in sorted(self.rules.get(dpid, ()), key=lambda r: r.priority):
            if rule.length in (0, len(text)) and rule.matches(text):
                result = rule.translate(ctx, text)
                return (rule, result) if result is not None else None
        return None

    # -- functions -------------------------------------------------------------------------------------------------------

    def _apply(self, ctx: Ctx, dpid: int, text: str, put: Callable[[str], None] | None) -> int:
        if dpid not in self.rules:
            self.rt.log.error("dialplan: there are no rules with dpid %d", dpid)
            return -2
        found = self.find(ctx, dpid, text)
        if found is None:
            return -1
        if put is not None and found[1]:
            put(found[1])
        if self.attrs is not None and self.attrs.set is not None:
            self.attrs.set(ctx, found[0].attributes)
        return 1

    def _number(self, ctx: Ctx, text: str) -> int:
        value = self.rt.pv(text)(ctx) if text.startswith("$") else text
        return to_int(value)

    @function(ANY)
    def dp_translate(self, ctx: Ctx, id: Lit, vars: Lit = "$rU/$rU") -> int:
        """``id``: a number or a variable. ``vars``: ``$in/$out``; without the second nothing is written."""
        source, slash, target = vars.partition("/")
        value = self.rt.pv(source.strip())(ctx) if source.strip().startswith("$") else source
        if value is None:
            return -1
        name = target.strip()

        def put(result: str) -> None:
            setter = self.rt.pv_set(name)
            setter(ctx, result)
            if self.p.append_branch and ctx.kind & Routes.FAILURE and name.lower() in ("$ru", "$ruri.user", "$rd"):
                ctx.push_current_branch()

        return self._apply(ctx, self._number(ctx, id), to_str(value), put if slash and name else None)

    @function(ANY)
    def dp_match(self, ctx: Ctx, dpid: int, inval: str) -> int:
        return self._apply(ctx, dpid, inval, None)

    @function(ANY)
    def dp_replace(self, ctx: Ctx, dpid: int, inval: str, outvar: PvArg) -> int:
        if outvar.set is None:
            return -1
        return self._apply(ctx, dpid, inval, lambda result: outvar.set(ctx, result))

    @function(ANY, waits=True)
    def dp_reload(self, ctx: Ctx) -> int:
        return 1 if self._reload() else -1

    def _reload(self) -> bool:
        try:
            self.load()
        except (DbError, ValueError) as err:
            self.rt.log.error("dialplan: %s", err)
            return False
        return True

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("dialplan.reload", spread=Spread.EVERY)
    def rpc_reload(self) -> None:
        """Read the rules again."""
        if not self._reload():
            raise RpcFault(500, "Dialplan Reload Failed")

    @rpc("dialplan.translate", wrong="Invalid parameters")
    def rpc_translate(self, dpid: int, text: str) -> dict[str, str | None]:
        """What a text becomes."""
        if dpid not in self.rules:
            raise RpcFault(500, "Dialplan ID not matched")
        found = self.find(self.rt.worker.fake_context(), dpid, text)
        if found is None:
            raise RpcFault(500, "No translation")
        return {"Output": found[1], "Attributes": found[0].attributes or None}

    @rpc("dialplan.dump", wrong="Missing parameter")
    def rpc_dump(self, dpid: int) -> dict[str, Any]:
        """The rules of a dpid."""
        if dpid not in self.rules:
            raise RpcFault(500, "Dialplan ID not matched")
        rows = [{"ENTRY": {"PRIO": r.priority, "MATCHOP": r.operator, "MATCHEXP": r.expression, "MATCHLEN": r.length, "SUBSTEXP": r.substitution or None,
                           "REPLEXP": r.replacement or None, "ATTRS": r.attributes or None}} for r in self.rules[dpid]]  # fmt: skip
        return {"DPID": dpid, "ENTRIES": rows}


module = Dialplan
