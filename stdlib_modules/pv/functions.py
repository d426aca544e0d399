"""Functions of the module."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, Routes, function
from kamc.declare.argtypes import Lit, PvArg
from kamc.declare.values import Value, to_str
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.sip.uri import split_quoted
from stdlib_modules.pv.base import Vars
from stdlib_modules.pv.xavp import Tree

_TYPES = {"int": int, "str": str}


class Functions(Vars):
    def tree(self, ctx: Ctx, kind: str) -> Tree:
        raise NotImplementedError

    @function(ANY)
    def pv_isset(self, ctx: Ctx, pvar: PvArg) -> int:
        return 1 if pvar.get(ctx) is not None else -1

    @function(ANY)
    def pv_unset(self, ctx: Ctx, pvar: PvArg) -> int:
        if pvar.set is None:
            return -1
        pvar.set(ctx, None)
        return 1

    @function(ANY)
    def is_int(self, ctx: Ctx, pvar: PvArg) -> int:
        value = pvar.get(ctx)
        return 1 if isinstance(value, int) else -1

    @function(ANY)
    def typeof(self, ctx: Ctx, pvar: PvArg, vtype: Lit) -> int:
        value = pvar.get(ctx)
        if vtype == "null":
            return 1 if value is None else -1
        return 1 if vtype in _TYPES and isinstance(value, _TYPES[vtype]) else -1

    @function(ANY)
    def not_empty(self, ctx: Ctx, pvar: PvArg) -> int:
        value = pvar.get(ctx)
        return 1 if isinstance(value, str) and value else -1

    @function(ANY)
    def pv_evalx(self, ctx: Ctx, dst: PvArg, fmt: str) -> int:
        """Evaluate a format, then the result as a format again."""
        dst.set(ctx, self.rt.format(fmt)(ctx))
        return 1

    # -- xavps -----------------------------------------------------------------------------------------------------------

    def _dump(self, values: Any, depth: int) -> None:
        for name, stack in values.items():
            for value in stack:
                pad = "    " * depth
                if isinstance(value, dict):
                    self.rt.log.write(2, f"{pad}XAVP name: {name}")
                    self._dump(value, depth + 1)
                else:
                    self.rt.log.write(2, f"{pad}{name} value: {value}")

    @function(ANY)
    def pv_xavp_print(self, ctx: Ctx) -> int:
        self._dump(self.tree(ctx, "xavp"), 0)
        return 1

    @function(ANY)
    def pv_xavi_print(self, ctx: Ctx) -> int:
        self._dump(self.tree(ctx, "xavi"), 0)
        return 1

    @function(ANY)
    def pv_xavu_print(self, ctx: Ctx) -> int:
        self._dump(self.tree(ctx, "xavu"), 0)
        return 1

    @function(ANY)
    def pv_var_to_xavp(self, ctx: Ctx, varname: str, xname: str) -> int:
        names = list(self.rt.vars) if varname == "*" else [varname]
        found = {n: [self.rt.vars[n]] for n in names if n in self.rt.vars}
        if not found:
            return -1
        self.tree(ctx, "xavp").setdefault(xname, []).insert(0, found)
        return 1

    @function(ANY)
    def pv_xavp_to_var(self, ctx: Ctx, xname: str) -> int:
        roots = self.tree(ctx, "xavp").get(xname)
        if not roots or not isinstance(roots[0], dict):
            return -1
        for name, values in roots[0].items():
            if values and not isinstance(values[0], dict):
                self.rt.vars[name] = values[0]
        return 1

    @function(ANY)
    def xavp_copy(self, ctx: Ctx, source_name: str, source_index: int, destination_name: str, destination_index: int = -1) -> int:
        tree = self.tree(ctx, "xavp")
        roots = tree.get(source_name, [])
        if not -len(roots) <= source_index < len(roots):
            return -1
        copied = _deep(roots[source_index])
        target = tree.setdefault(destination_name, [])
        if 0 <= destination_index < len(target):
            target[destination_index] = copied
        else:
            target.insert(0, copied)
        return 1

    def _explode(self, ctx: Ctx, kind: str, text: str, sep: str, xname: str) -> int:
        fields = {k: [v if v is not None else ""] for k, v in _raw_params(text, sep).items()}
        if not fields:
            return -1
        tree = self.tree(ctx, kind)
        if kind == "xavu":
            tree[xname] = [fields]
        else:
            tree.setdefault(xname, []).insert(0, fields)
        return 1

    @function(ANY)
    def xavp_params_explode(self, ctx: Ctx, sparams: str, xname: str) -> int:
        return self._explode(ctx, "xavp", sparams, ";", xname)

    @function(ANY)
    def xavp_xparams_explode(self, ctx: Ctx, sparams: str, sep: str, xname: str) -> int:
        return self._explode(ctx, "xavp", sparams, sep[:1] or ";", xname)

    @function(ANY)
    def xavu_params_explode(self, ctx: Ctx, sparams: str, xname: str) -> int:
        return self._explode(ctx, "xavu", sparams, ";", xname)

    @function(ANY)
    def xavp_slist_explode(self, ctx: Ctx, slist: str, sep: str, mode: str, xname: str) -> int:
        """A separated list → field ``v`` repeated; mode ``t`` trims."""
        parts = slist.split(sep[:1] or ",")
        values = [p.strip() if "t" in mode else p for p in parts]
        self.tree(ctx, "xavp").setdefault(xname, []).insert(0, {"v": list(values)})
        return 1

    def _implode(self, ctx: Ctx, kind: str, xname: str, pvname: str, *, quote: bool) -> int:
        roots = self.tree(ctx, kind).get(xname)
        if not roots or not isinstance(roots[0], dict):
            return -1
        mark = '"' if quote else ""
        text = "".join(f"{n}={mark}{to_str(v[0])}{mark};" if to_str(v[0]) != "" else f"{n};" for n, v in reversed(roots[0].items()) if v and not isinstance(v[0], dict))
        setter = self.rt.pv_arg(pvname).set
        if setter is None:
            return -1
        setter(ctx, text)
        return 1

    @function(ANY)
    def xavp_params_implode(self, ctx: Ctx, xname: str, pvname: Lit) -> int:
        return self._implode(ctx, "xavp", xname, pvname, quote=False)

    @function(ANY)
    def xavp_params_implode_qval(self, ctx: Ctx, xname: str, pvname: Lit) -> int:
        return self._implode(ctx, "xavp", xname, pvname, quote=True)

    @function(ANY)
    def xavu_params_implode(self, ctx: Ctx, xname: str, pvname: Lit) -> int:
        return self._implode(ctx, "xavu", xname, pvname, quote=False)

    def _child_set(self, ctx: Ctx, kind: str, rname: str, cname: str, value: Value) -> int:
        if kind == "xavi":
            rname, cname = rname.lower(), cname.lower()
        roots = self.tree(ctx, kind).setdefault(rname, [])
        if not roots or not isinstance(roots[0], dict):
            roots.insert(0, {})
        roots[0][cname] = [value]
        return 1

    @function(ANY)
    def xavp_child_seti(self, ctx: Ctx, rname: str, cname: str, ival: int) -> int:
        return self._child_set(ctx, "xavp", rname, cname, ival)

    @function(ANY)
    def xavp_child_sets(self, ctx: Ctx, rname: str, cname: str, sval: str) -> int:
        return self._child_set(ctx, "xavp", rname, cname, sval)

    @function(ANY)
    def xavi_child_seti(self, ctx: Ctx, rname: str, cname: str, ival: int) -> int:
        return self._child_set(ctx, "xavi", rname, cname, ival)

    @function(ANY)
    def xavi_child_sets(self, ctx: Ctx, rname: str, cname: str, sval: str) -> int:
        return self._child_set(ctx, "xavi", rname, cname, sval)

    def _remove(self, ctx: Ctx, kind: str, rname: str, *, every: bool) -> int:
        tree = self.tree(ctx, kind)
        name = rname.lower() if kind == "xavi" else rname
        roots = tree.get(name)
        if not roots:
            return -1
        if every or len(roots) == 1:
            del tree[name]
        else:
            del roots[0]
        return 1

    @function(ANY)
    def xavp_rm(self, ctx: Ctx, rname: str) -> int:
        return self._remove(ctx, "xavp", rname, every=False)

    @function(ANY)
    def xavp_rm_all(self, ctx: Ctx, rname: str) -> int:
        return self._remove(ctx, "xavp", rname, every=True)

    @function(ANY)
    def xavi_rm(self, ctx: Ctx, rname: str) -> int:
        return self._remove(ctx, "xavi", rname, every=False)

    @function(ANY)
    def xavi_rm_all(self, ctx: Ctx, rname: str) -> int:
        return self._remove(ctx, "xavi", rname, every=True)

    def _child_rm(self, ctx: Ctx, kind: str, rname: str, cname: str) -> int:
        roots = self.tree(ctx, kind).get(rname)
        if not roots or not isinstance(roots[0], dict) or cname not in roots[0]:
            return -1
        del roots[0][cname]
        return 1

    @function(ANY)
    def xavp_child_rm(self, ctx: Ctx, rname: str, cname: str) -> int:
        return self._child_rm(ctx, "xavp", rname, cname)

    @function(ANY)
    def xavi_child_rm(self, ctx: Ctx, rname: str, cname: str) -> int:
        return self._child_rm(ctx, "xavi", rname.lower(), cname.lower())

    @function(ANY)
    def xavp_lshift(self, ctx: Ctx, xname: str, idx: int) -> int:
        """Drop the first ``idx`` roots."""
        tree = self.tree(ctx, "xavp")
        roots = tree.get(xname)
        if not roots or idx < 0:
            return -1
        del roots[:idx]
        if not roots:
            del tree[xname]
        return 1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.BRANCH)
    def xavp_push_dst(self, ctx: Ctx, xname: str) -> int:
        """Take the destination from the fields of a root: uri, dst_uri, path, flags, ..."""
        roots = self.tree(ctx, "xavp").get(xname)
        if not roots or not isinstance(roots[0], dict):
            return -1
        fields = {n: v[0] for n, v in roots[0].items() if v}
        if "uri" in fields:
            ctx.ruri, ctx.ruri_used = to_str(fields["uri"]), False
        ctx.du = to_str(fields["dst_uri"]) if fields.get("dst_uri") else ctx.du
        ctx.path = to_str(fields["path"]) if fields.get("path") else ctx.path
        return 1

    # -- the static branch -----------------------------------------------------------------------------------------------

    @function(ANY)
    def sbranch_set_ruri(self, ctx: Ctx) -> int:
        b = ctx.sbranch
        if b is None:
            return -1
        if b.uri:
            ctx.ruri, ctx.ruri_used = b.uri, False
        ctx.du, ctx.path, ctx.bflags = b.dst_uri, b.path, b.flags
        if b.send_socket is not None:
            ctx.send_socket = b.send_socket
        return 1

    @function(ANY)
    def sbranch_append(self, ctx: Ctx) -> int:
        b = ctx.sbranch
        if b is None:
            return -1
        ctx.branches.append(Branch(b.uri or ctx.ruri, b.dst_uri, b.path, b.q, b.send_socket, b.flags, b.instance, b.ruid, b.user_agent))
        return 1

    @function(ANY)
    def sbranch_reset(self, ctx: Ctx) -> int:
        ctx.sbranch = Branch("")
        return 1


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: [_deep(v) for v in values] for k, values in value.items()}
    return value


def _raw_params(text: str, sep: str) -> dict[str, str | None]:
    """Parameters with the case of their names kept and quotes around values removed."""
    out: dict[str, str | None] = {}
    for part in split_quoted(text, sep):
        name, eq, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if name:
            out.setdefault(name, (value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value) if eq else None)
    return out


