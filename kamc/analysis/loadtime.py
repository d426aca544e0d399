"""``loadmodulex`` and ``modparamx``: variables that have a value while a configuration is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kamc import nodes as n
from kamc.analysis.unit import Unit
from kamc.declare.pvspec import PvSpec, PvSyntaxError, parse_format, parse_pv
from kamc.source import Span


class _NoValueError(Exception):
    """A variable without a value at load time."""


def resolve_load_time(unit: Unit) -> None:
    """Replace the texts of ``loadmodulex`` and ``modparamx`` by what they stand for; from here on they are ordinary ones."""
    defines = dict(unit.cfg.defines)
    resolver = _Resolver(unit, unit.env, defines)
    items = tuple(resolver.item(i) if isinstance(i, n.LoadModule | n.ModParam) else i for i in unit.cfg.items)
    unit.cfg = replace(unit.cfg, items=items)


class _Resolver:
    def __init__(self, unit: Unit, env: Mapping[str, str], defines: Mapping[str, str | None]) -> None:
        self.unit, self.env, self.defines = unit, env, defines

    def item(self, item: n.LoadModule | n.ModParam) -> n.Item:
        if isinstance(item, n.LoadModule):
            return replace(item, name=self.text(item.name, item.span)) if item.keyword == "loadmodulex" else item
        if item.keyword != "modparamx":
            return item
        value = item.value
        if isinstance(value, n.PvRef):
            value = n.Str(span=value.span, value=self.variable(value.text, value.span))
        elif isinstance(value, n.Str):
            value = self.string(value)
        return replace(item, module=self.string(item.module), param=self.string(item.param), value=value)

    def string(self, node: n.Str) -> n.Str:
        return replace(node, value=self.text(node.value, node.span))

    def text(self, text: str, span: Span) -> str:
        if "$" not in text:
            return text
        try:
            return self._expand(text)
        except (PvSyntaxError, _NoValueError) as err:
            self.unit.sink.error("K0324", span, str(err))
            return text

    def variable(self, text: str, span: Span) -> str:
        try:
            return self._value(parse_pv(text))
        except (PvSyntaxError, _NoValueError) as err:
            self.unit.sink.error("K0324", span, str(err))
            return ""

    def _expand(self, text: str) -> str:
        return "".join(p if isinstance(p, str) else self._value(p) for p in parse_format(text))

    def _value(self, spec: PvSpec) -> str:
        inner = spec.inner or ""
        if spec.transformations or spec.name not in ("env", "def", "defn", "_s"):
            raise _NoValueError(f"{spec.text} has no value while the configuration is read: $env, $def, $defn and $_s have")
        if spec.name == "_s":
            return self._expand(inner)
        if spec.name == "env":
            return self.env.get(inner, "<null>")
        return self.defines.get(inner) or ("0" if spec.name == "defn" else "<null>")
