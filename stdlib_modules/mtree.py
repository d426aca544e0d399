"""Module mtree: values by prefix, the longest one wins. https://www.kamailio.org/docs/modules/stable/modules/mtree.html"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kamc.declare import Module, Routes, Spread, function, modparam, rpc
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, DbError
from kamc.runtime.rpc.fault import RpcFault

#: types of values: texts, ``destination:weight`` pairs, numbers
_TEXT, _WEIGHTED, _NUMBER = 0, 1, 2
_LONGEST, _ALL = 0, 2


@dataclass(slots=True)
class Tree:
    kind: int
    table: str = ""
    #: values of the configuration
    items: list[tuple[str, str]] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    #: how often it was filled, and when last, in seconds since 1970
    loads: int = 0
    loaded_at: int = 0

    def size(self) -> int:
        """Bytes of its texts."""
        return sum(len(prefix) + sum(map(len, values)) for prefix, values in self.values.items())

    def prefixes(self, text: str, alphabet: str) -> list[str]:
        """What stands for a text, the longest prefix first. A text with other characters has none."""
        if any(c not in alphabet for c in text):
            return []
        return [text[:size] for size in range(len(text), 0, -1) if text[:size] in self.values]


class Mtree(Module):
    name = "mtree"
    tuning_params = ("fetch_rows",)

    class Params:
        db_url: str = "mysql://kamailio:kamailiorw@localhost/kamailio"
        db_table: str = ""
        tname_column: str = "tname"
        tprefix_column: str = "tprefix"
        tvalue_column: str = "tvalue"
        char_list: str = "0123456789"
        connect_mode: int = 0
        pv_value: str = "$avp(s:tvalue)"
        pv_values: str = "$avp(s:tvalues)"
        pv_dstid: str = "$avp(s:tdstid)"
        pv_weight: str = "$avp(s:tweight)"
        pv_count: str = "$avp(s:tcount)"
        mt_tree_type: int = 0
        mt_ignore_duplicates: int = 0
        mt_allow_duplicates: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.trees: dict[str, Tree] = {}
        self.definitions: list[dict[str, str]] = []
        self.given: list[dict[str, str]] = []

    @staticmethod
    def _attributes(text: str, names: tuple[str, ...]) -> dict[str, str]:
        out: dict[str, str] = {}
        for part in text.split(";"):
            name, eq, value = part.strip().partition("=")
            if not part.strip():
                continue
            if not eq or name not in names:
                raise ValueError(f"{part.strip()!r}: the names are {', '.join(names)}")
            out[name] = value
        if not out.get("name"):
            raise ValueError(f"{text!r} has no name")
        return out

    @modparam("mtree")
    def set_tree(self, text: str) -> None:
        """``name=mytree;dbtable=mtree_table;type=0``; more columns may be named with ``cols``, which is left out."""
        found = self._attributes(text, ("name", "dbtable", "type", "multi"))
        if found.get("type", "0") not in ("0", "1", "2"):
            raise ValueError(f"{text!r}: the type is 0, 1 or 2")
        self.definitions.append(found)

    @modparam("item")
    def set_item(self, text: str) -> None:
        """``name=mytree;prefix=12;value=abc``."""
        found = self._attributes(text, ("name", "prefix", "value"))
        if not found.get("prefix"):
            raise ValueError(f"{text!r} has no prefix")
        self.given.append(found)

    def mod_init(self) -> None:
        for found in self.definitions:
            self.trees[found["name"]] = Tree(int(found.get("type", self.p.mt_tree_type)), found.get("dbtable", ""))
        for item in self.given:
            tree = self.trees.setdefault(item["name"], Tree(self.p.mt_tree_type))
            tree.items.append((item["prefix"], item.get("value", "")))
        self.db: Database | None = None
        if any(t.table for t in self.trees.values()) or self.p.db_table:
            try:
                self.db = self.rt.database(self.p.db_url)
            except ConfigError:
                if not self.p.connect_mode:
                    raise
        p = self.p
        names = {"value": p.pv_value, "values": p.pv_values, "dstid": p.pv_dstid, "weight": p.pv_weight, "count": p.pv_count}
        self.variables = {name: self.rt.pv_arg(text) for name, text in names.items()}
        try:
            for name in self._names():
                self._load(name)
        except (DbError, ValueError) as err:
            raise ConfigError(f"mtree: {err}") from None

    def _names(self) -> list[str]:
        """The trees of the configuration, and those that the common table names."""
        if self.db is not None and self.p.db_table:
            for (name,) in self.db.select(self.p.db_table, (self.p.tname_column,)).rows:
                self.trees.setdefault(str(name), Tree(self.p.mt_tree_type))
        return list(self.trees)

    def _load(self, name: str) -> None:
        """Fill a tree anew. Raises DbError, ValueError."""
        tree = self.trees[name]
        columns = (self.p.tprefix_column, self.p.tvalue_column)
        rows: list[tuple[str, str]] = list(tree.items)
        if self.db is not None and tree.table:
            rows += [(str(p), str(v)) for p, v in self.db.select(tree.table, columns).rows]
        elif self.db is not None and self.p.db_table:
            rows += [(str(p), str(v)) for p, v in self.db.select(self.p.db_table, columns, ((self.p.tname_column, "=", name),)).rows]
        values: dict[str, list[str]] = {}
        for prefix, value in rows:
            if not prefix or any(c not in self.p.char_list for c in prefix):
                raise ValueError(f"tree {name}: prefix {prefix!r} has characters that char_list does not")
            if prefix in values and not self.p.mt_allow_duplicates:
                if not self.p.mt_ignore_duplicates:
                    raise ValueError(f"tree {name}: prefix {prefix} stands twice")
                continue
            values.setdefault(prefix, []).append(value)
        tree.values, tree.loads, tree.loaded_at = values, tree.loads + 1, int(self.rt.wall_time())

    # -- matching --------------------------------------------------------------------------------------------------------

    def _typed(self, tree: Tree, value: str) -> int | str:
        return int(value) if tree.kind == _NUMBER and value.lstrip("-").isdigit() else value

    def _set(self, ctx: Ctx, name: str, value: int | str | None) -> None:
        variable = self.variables[name]
        if variable.set is not None:
            variable.set(ctx, value)

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH)
    def mt_match(self, ctx: Ctx, mtree: str, value: str, mode: int) -> int:
        """Mode 0: the value of the longest prefix in pv_value (for type 1 destinations and weights in pv_dstid and pv_weight); mode 2: the
        values of all prefixes in pv_values, the longest first."""
        tree = self.trees.get(mtree)
        if tree is None:
            self.rt.log.error("mt_match: there is no tree %s", mtree)
            return -1
        found = tree.prefixes(value, self.p.char_list)
        if not found:
            return -1
        if mode == _ALL:
            values = [v for prefix in found for v in tree.values[prefix]]
            for item in reversed(values):
                self._set(ctx, "values", self._typed(tree, item))
            return 1
        if tree.kind == _WEIGHTED:
            # those of shorter prefixes, too; the last one of the longest ends up on top
            pairs = [part.strip().partition(":") for prefix in reversed(found) for v in tree.values[prefix] for part in v.split(";") if part.strip()]
            for dstid, _, weight in pairs:
                self._set(ctx, "dstid", int(dstid) if dstid.isdigit() else dstid)
                self._set(ctx, "weight", int(weight) if weight.isdigit() else 0)
            self._set(ctx, "count", len(pairs))
            return 1
        self._set(ctx, "value", self._typed(tree, tree.values[found[0]][0]))
        return 1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Tree:
        tree = self.trees.get(name)
        if tree is None:
            raise RpcFault(404, "Tree not found")
        return tree

    @rpc("mtree.summary")
    def rpc_summary(self, name: str = "") -> list[dict[str, Any]]:
        """[TREE]: the trees and their sizes, the memory in bytes."""
        return [{"table": one, "item": {"ttype": t.kind, "memsize": t.size(), "nrnodes": len(t.values), "nritems": sum(map(len, t.values.values())),
                                        "reload_count": t.loads, "reload_time": t.loaded_at}}
                for one, t in self.trees.items() if name in ("", one)]  # fmt: skip

    @rpc("mtree.list")
    def rpc_list(self, name: str = "") -> list[dict[str, Any]]:
        """[TREE]: the values of a tree, or of all; none of one that there is not."""
        return [{"tname": one, "tprefix": prefix, "tvalue": values} for one, tree in self.trees.items() if name in ("", one)
                for prefix, values in sorted(tree.values.items())]  # fmt: skip

    @rpc("mtree.match", wrong="Invalid Parameters")
    def rpc_match(self, name: str, value: str, mode: int = 0) -> list[Any]:
        """TREE TEXT [MODE]: the longest prefix of a text and its value; with mode 2 all of its prefixes, the shortest first."""
        tree = self._named(name)
        found = tree.prefixes(value, self.p.char_list)
        if not found:
            raise RpcFault(404, "Prefix not found")
        return [name, *({"PREFIX": one, "TVALUE": tree.values[one][0]} for one in (reversed(found) if mode == _ALL else found[:1]))]

    @rpc("mtree.reload", spread=Spread.EVERY)
    def rpc_reload(self, name: str = "") -> str:
        """Read a tree, or all of them, again."""
        try:
            if name and name not in self._names():
                raise RpcFault(500, "Can not find specified Mtree")
            for tree in [name] if name else self._names():
                self._load(tree)
        except (DbError, ValueError) as err:
            self.rt.log.error("mtree: %s", err)
            raise RpcFault(500, "failed to re-load mtrees records") from None
        return "Ok. Mtree reloaded."


module = Mtree
