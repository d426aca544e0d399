"""Checks of pseudo-variables, in the script and inside of texts, and of regular expressions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, Final

from kamc import catalogue
from kamc import nodes as n
from kamc.analysis.items import registry_at
from kamc.analysis.unit import Route, Unit
from kamc.declare.pvspec import PvSpec, PvSyntaxError, char_argument, parse_format, parse_pv, read_pv, specs_of
from kamc.declare.regex import RegexError, compile_regex, error_offset
from kamc.declare.routes import block_mask
from kamc.registry import Registry
from kamc.source import Span

_INDEX: Final = re.compile(r"(?:-?[0-9]+|\*)\Z")
_NUMBER: Final = re.compile(r"[ \t\r\n]*[+-]?[0-9]+[ \t\r\n]*\Z")


def places_of(pieces: tuple[str | PvSpec, ...], text: str, span: Span) -> Iterator[tuple[PvSpec, Span]]:
    """The variables of a format string, those inside of others too, with their places; ``span`` is the place of ``text``."""
    at = 0
    for piece in pieces:
        if isinstance(piece, PvSpec):
            at = max(text.find(piece.text, at), 0)
            for spec in specs_of((piece,)):
                begin = at + max(piece.text.find(spec.text), 0)
                yield spec, span.part(text, begin, begin + len(spec.text))
            at += len(piece.text)


class VariableChecks:
    """What the checks of one block share, and those of its variables. ``mask`` is the kind of the block."""

    def __init__(self, unit: Unit, route: Route, block: n.RouteBlock) -> None:
        self.unit, self.route, self.block = unit, route, block
        self.sink = unit.sink
        self.registry: Registry = registry_at(unit, block)
        self.mask = block_mask(block.kind, block.name)
        #: Kamailio makes its shared variables with the first modparam or when the first block is read whole
        self.before_shared = not any(isinstance(i, n.ModParam | n.RouteBlock) for i in takewhile(lambda i: i is not block, unit.cfg.items))

    def regex(self, pattern: str, span: Span, *, icase: bool = True) -> None:
        try:
            compile_regex(pattern, icase)
        except RegexError as err:
            at = error_offset(pattern)
            place = span if at is None else span.part(pattern, at, at + 1)
            self.sink.error("K0602", place, f"bad regular expression: {err}")

    def custom_var(self, path: str, span: Span) -> None:
        group, _, name = path.partition(".")
        name = name.split("[")[0]
        known = {(v.group, v.name) for v in self.unit.custom}
        if (group, name) not in known and name not in catalogue.cfg_group(group):
            close = difflib.get_close_matches(f"{group}.{name}", [f"{g}.{v}" for g, v in known], 1)
            self.sink.error("K0702", span, f"unknown custom variable {path}", hint=f"did you mean {close[0]}?" if close else None)

    def check_writable(self, spec: PvSpec, span: Span) -> None:
        decl = self.pv_decl(spec.name)
        if spec.transformations:
            self.sink.error("K0502", span, f"{spec.text} has a transformation and cannot be assigned")
        elif decl is not None and decl.writable is None:
            self.sink.error("K0502", span, f"{spec.text} is read-only")

    def pv_ref(self, e: n.PvRef) -> PvSpec | None:
        return self.spec(e.text, e.span, script=True, compat=e.compat)

    def spec(self, text: str, span: Span, *, script: bool = False, compat: bool = False) -> PvSpec | None:
        try:
            if script:
                spec, end = read_pv(text, 0, script=True)
                if end != len(text):
                    raise PvSyntaxError(f"unexpected {text[end:]!r}", end)
            else:
                spec = parse_pv(text)
        except PvSyntaxError as err:
            self.sink.error("K0504", span, f"bad variable {text}: {err}")
            return None
        for inner, place in places_of((spec,), text, span):
            self.check_spec(inner, place, compat=compat)
        return spec

    def format(self, text: str, span: Span) -> tuple[str | PvSpec, ...] | None:
        """The pieces of a format string, checked; None where it cannot be read."""
        try:
            pieces = parse_format(text)
        except PvSyntaxError as err:
            self.sink.error("K0504", span.part(text, err.offset, len(text)), f"in the text: {err}")
            return None
        for spec, place in places_of(pieces, text, span):
            self.check_spec(spec, place)
        return pieces

    def pv_decl(self, name: str) -> Any:
        for module in self.registry.implemented():
            decl = module.declarations().pvs.get(name)
            if decl is not None:
                return decl
        return None

    def check_spec(self, spec: PvSpec, span: Span, *, compat: bool = False) -> None:
        self.unit.variables.append((spec, span))
        if spec.name == "sel" and (spec.inner or "").strip().startswith("cfg_get."):
            self.custom_var((spec.inner or "").strip()[len("cfg_get.") :], span)
        decl = self.pv_decl(spec.name)
        if spec.name == "shv" and self.before_shared:
            hint = 'set one module parameter before this block, say modparam("pv", "shvset", "name=i:0")'
            self.sink.error("K0504", span, f"{spec.text}: no shared variable can be named in the first block before any modparam", hint=hint)
        if decl is None:
            if compat and spec.inner is None and not spec.text.startswith("$("):
                return  # outside of KAMAILIO mode an unknown $name is an avp
            self.unknown_pv(spec, span)
            return
        if (decl.inner == "required" and spec.inner is None) or (decl.inner == "required" and not (spec.inner or "").strip()):
            self.sink.error("K0504", span, f"${spec.name} needs a name in brackets")
        elif isinstance(spec.index, str) and not _INDEX.match(spec.index):
            self.sink.error("K0504", span, f"{spec.text}: the index is a number, * or a variable, not {spec.index!r}")
        elif decl.inner == "none" and spec.inner is not None:
            self.sink.error("K0504", span, f"${spec.name} takes no name in brackets")
        check = getattr(self.module_of(decl.module), f"check_{decl.method}", None)
        problem = check(spec) if check is not None else None
        if problem:
            self.sink.error("K0504", span, f"{spec.text}: {problem}")
        at = 0
        for step in spec.transformations:
            at = max(spec.text.find(step.text, at), at)
            self.check_transformation(step, span.part(spec.text, at, at + len(step.text)))

    def module_of(self, name: str) -> Any:
        return next((m for m in self.registry.implemented() if m.name == name), None)

    def unknown_pv(self, spec: PvSpec, span: Span) -> None:
        rows = catalogue.pvs().get(spec.name, ())
        for module, _ in rows:
            if module == "core" or module in self.registry.loaded:
                self.unit.missing("K0505", span, f"variable ${spec.name} of {module} is not implemented by kamc")
                return
        if rows:
            self.sink.error("K0501", span, f"unknown variable ${spec.name}", hint=f'it comes from module {rows[0][0]}: loadmodule "{rows[0][0]}.so"')
            return
        known = [p for m in self.registry.implemented() for p in m.declarations().pvs]
        close = difflib.get_close_matches(spec.name, known, 1)
        self.sink.error("K0501", span, f"unknown variable ${spec.name}", hint=f"did you mean ${close[0]}?" if close else None)

    def check_transformation(self, step: Any, span: Span) -> None:
        decls = {name: d for m in self.registry.implemented() for name, d in m.declarations().transformations.items()}
        decl = decls.get(step.name)
        self.unit.dated("transformations", step.name, span)
        if decl is None:
            row = catalogue.core()["transformations"].get(step.name)
            if row is not None and row["module"] in self.registry.loaded:
                self.unit.missing("K0505", span, f"transformation {{{step.name}}} is not implemented by kamc")
                return
            close = difflib.get_close_matches(step.name, list(decls), 1)
            hint = f"it comes from module {row['module']}" if row else f"did you mean {{{close[0]}}}?" if close else None
            self.sink.error("K0503", span, f"unknown transformation {{{step.name}}}", hint=hint)
            return
        if not decl.required <= len(step.args) <= len(decl.args):
            self.sink.error("K0503", span, f"transformation {{{step.name}}} takes {decl.required} to {len(decl.args)} arguments, not {len(step.args)}")
            return
        check = getattr(self.module_of(decl.module), "check_transformation", None)
        bad = next((a for kind, a in zip(decl.args, step.args, strict=False) if kind == "int" and isinstance(a, str) and not _NUMBER.match(a)), None)
        if "" in step.args[char_argument(step.name) :][:1]:
            self.sink.error("K0503", span, f"transformation {{{step.name}}}: a character is missing")
            return
        problem = f"{bad!r} is no number" if bad is not None else check(step, decl) if check is not None else None
        if problem:
            self.sink.error("K0503", span, f"transformation {{{step.name}}}: {problem}")
