"""Script variables that nobody sets, and hash tables that nobody defines."""

from __future__ import annotations

import difflib
import re

from kamc import nodes as n
from kamc.analysis.unit import Unit
from kamc.declare.pvspec import PvSyntaxError, parse_pv

_TABLE_PVS = frozenset({"sht", "shtex", "shtcn", "shtcv", "shtinc", "shtdec", "shtval"})
#: modules that run scripts of their own, which may set any variable
_ENGINES = re.compile(r"app_\w+\Z")


def check_usage(unit: Unit) -> None:
    if unit.is_whole and not any(_ENGINES.match(name) for name in unit.modules):
        _unset_variables(unit)
    if "htable" in unit.modules:
        _tables(unit)


def _variable(text: str) -> str | None:
    """``$var(x)`` and ``$(var(x)...)`` → x."""
    try:
        spec = parse_pv(text)
    except PvSyntaxError:
        return None
    return spec.inner if spec.name == "var" else None


def _set_names(unit: Unit) -> set[str]:
    """Names that are assigned, or handed to a function as a whole, which may store into them."""
    names: set[str] = set()
    for route in unit.routes.values():
        for block in route.blocks:
            for node in n.walk(block):
                match node:
                    case n.Assign() | n.AssignExpr() if isinstance(node.target, n.PvRef):
                        names.add(_variable(node.target.text) or "")
                    case n.Call():
                        texts = (a.value if isinstance(a, n.Str) else a.text for a in node.args if isinstance(a, n.Str | n.PvRef))
                        # a variable may be named among others, as in "$var(a);$var(b)"
                        for text in texts:
                            names.update(re.findall(r"\$\(?var\(([^()]*)\)", text) if text.startswith("$") else ())
    for setting in unit.cfg.items:
        if isinstance(setting, n.ModParam) and isinstance(setting.value, n.Str):
            if setting.param.value == "varset":
                names.add(setting.value.value.partition("=")[0].strip())
            names.update(re.findall(r"\$var\(([^()]*)\)", setting.value.value))
    return names


def _unset_variables(unit: Unit) -> None:
    known = _set_names(unit)
    told: set[str] = set()
    for spec, span in unit.variables:
        name = spec.inner
        if spec.name != "var" or not name or "$" in name or name in known or name in told:
            continue
        told.add(name)
        close = difflib.get_close_matches(name, sorted(k for k in known if k), 1)
        unit.sink.warning("K0612", span, f"$var({name}) is read and never set: it is 0 here", hint=f"did you mean $var({close[0]})?" if close else None)


def _tables(unit: Unit) -> None:
    defined = set()
    for item in unit.cfg.items:
        if isinstance(item, n.ModParam) and item.param.value == "htable" and isinstance(item.value, n.Str):
            defined.add(item.value.value.partition("=>")[0].strip())
    for spec, span in unit.variables:
        if spec.name in _TABLE_PVS and spec.inner:
            table = spec.inner.partition("=>")[0].strip()
            if "$" not in table and table not in defined:
                close = difflib.get_close_matches(table, sorted(defined), 1)
                hint = f"did you mean {close[0]}?" if close else f'modparam("htable", "htable", "{table}=>size=8;")'
                unit.sink.warning("K0506", span, f"hash table {table!r} is not defined", hint=hint)
