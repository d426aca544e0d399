"""Nodes → configuration text. Parsing the result gives an equal tree (:func:`same`), which a test shows for whole corpora."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from kamc import nodes as n
from kamc.errors import KamcBug


def quote(text: str, mark: str = '"') -> str:
    """A string literal with the given value."""
    if mark == "'" and "'" not in text:
        return f"'{text}'"
    out = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t").replace("\a", "\\a")
    return f'"{out}"'


class Printer:
    """One method per node type, found by name."""

    def text(self, node: n.Node) -> str:
        method: Callable[[Any], str] | None = getattr(self, f"print_{type(node).__name__}", None)
        if method is None:
            raise KamcBug(f"no way to print {type(node).__name__}")
        return method(node)

    # -- expressions -----------------------------------------------------------------------------------------------------

    def print_Int(self, e: n.Int) -> str:
        return str(e.value) if e.value >= 0 else f"-{-e.value}"

    def print_Str(self, e: n.Str) -> str:
        return quote(e.value, e.quote)

    def print_PvRef(self, e: n.PvRef) -> str:
        return e.text

    def print_AttrRef(self, e: n.AttrRef) -> str:
        return e.text

    def print_SelectRef(self, e: n.SelectRef) -> str:
        return e.text

    def print_Unary(self, e: n.Unary) -> str:
        if e.op in ("strlen", "strempty"):
            return f"{e.op}({self.text(e.operand)})"
        return f"{e.op} {self.text(e.operand)}" if e.op == "defined" else f"{e.op}{self.text(e.operand)}"

    def print_Binary(self, e: n.Binary) -> str:
        return f"{self.text(e.left)} {e.op} {self.text(e.right)}"

    def print_Selval(self, e: n.Selval) -> str:
        return f"selval({self.text(e.test)}, {self.text(e.then)}, {self.text(e.orelse)})"

    def print_Paren(self, e: n.Paren) -> str:
        return f"({self.text(e.inner)})"

    def print_AssignExpr(self, e: n.AssignExpr) -> str:
        return f"({self.text(e.target)} = {self.text(e.value)})"

    def print_BlockExpr(self, e: n.BlockExpr) -> str:
        return "{ " + " ".join(line.strip() for s in e.body.body for line in self.statement(s, 0)) + " }"

    def print_CoreTest(self, e: n.CoreTest) -> str:
        return f"{e.keyword} {e.op} {self.text(e.right)}"

    def print_CoreValue(self, e: n.CoreValue) -> str:
        return e.text

    def print_Call(self, e: n.Call) -> str:
        return f"{e.name}({self.args(e.args)})"

    def print_CoreCall(self, e: n.CoreCall) -> str:
        return e.name if e.bare else f"{e.name}({self.args(e.args)})"

    def print_Word(self, e: n.Word) -> str:
        return e.text

    def print_RouteCall(self, e: n.RouteCall) -> str:
        return f"route({e.word if e.target is None else self.text(e.target)})"

    def args(self, args: Iterable[n.Node]) -> str:
        return ", ".join(self.text(a) for a in args)

    # -- statements ------------------------------------------------------------------------------------------------------

    def statement(self, s: n.Stmt, depth: int) -> list[str]:
        pad = "\t" * depth
        match s:
            case n.Null():
                return [f"{pad};"]
            case n.ExprStmt():
                return [f"{pad}{self.text(s.call)};"]
            case n.Assign():
                return [f"{pad}{self.text(s.target)} = {self.text(s.value)};"]
            case n.Control():
                return [f"{pad}{s.kind}{' ' + self.text(s.value) if s.value is not None else ''};"]
            case n.If():
                out = [f"{pad}if {self.text(s.test)} {{", *self.block(s.then, depth + 1)]
                if s.orelse is not None:
                    out += [f"{pad}}} else {{", *self.block(s.orelse, depth + 1)]
                return [*out, f"{pad}}}"]
            case n.While():
                return [f"{pad}while {self.text(s.test)} {{", *self.block(s.body, depth + 1), f"{pad}}}"]
            case n.Switch():
                out = [f"{pad}switch {self.text(s.value)} {{"]
                for case in s.cases:
                    label = "default" if case.value is None else f"case {'/' if case.regex else ''}{self.text(case.value)}"
                    out.append(f"{pad}\t{label}:")
                    out += [line for inner in case.body for line in self.statement(inner, depth + 2)]
                return [*out, f"{pad}}}"]
        raise KamcBug(f"no way to print {type(s).__name__}")

    def block(self, block: n.Block, depth: int) -> list[str]:
        return [line for s in block.body for line in self.statement(s, depth)]

    # -- top level -------------------------------------------------------------------------------------------------------

    def print_RouteBlock(self, b: n.RouteBlock) -> str:
        name = ("[0]" if b.zero else "") if b.name is None else f"[{quote(b.name) if b.quoted else b.name}]"
        return "\n".join([f"{b.keyword}{name} {{", *self.block(b.body, 1), "}"])

    def print_CoreParam(self, p: n.CoreParam) -> str:
        return f"{p.name} = {self.text(p.value)}"

    def print_CustomVar(self, v: n.CustomVar) -> str:
        instance = "" if v.instance is None else f"[{v.instance}]"
        desc = f" desc {quote(v.description)}" if v.description is not None else ""
        # the semicolon keeps a preceding listen= from reading the name as an address
        return f";{v.group}{instance}.{v.name} = {self.text(v.value)}{desc}"

    def print_SocketId(self, s: n.SocketId) -> str:
        def address(text: str) -> str:
            plain = text.replace(".", "").replace("-", "").replace("_", "").replace(":", "").isalnum()
            return text if plain and text[:1] not in ("-", "_") else quote(text)

        shown = address(s.addresses[0]) if len(s.addresses) == 1 else "(" + ", ".join(address(a) for a in s.addresses) + ")"
        port = {0: "", -1: ":*"}.get(s.port, f":{s.port}")
        return (f"{s.proto}:" if s.proto else "") + shown + port

    def print_SocketRange(self, s: n.SocketRange) -> str:
        return f"{self.print_SocketId(s)}-{s.last_port}"

    def print_Listen(self, x: n.Listen) -> str:
        out = "listen = " + " ".join(self.text(s) for s in x.sockets)
        if x.advertise is not None:
            out += f" advertise {self.text(x.advertise)}"
        if x.name is not None:
            out += f" name {quote(x.name)}"
        return out + (" virtual" if x.virtual else "")

    def print_SocketBlock(self, x: n.SocketBlock) -> str:
        return "socket = {\n" + "".join(f"\t{k} = {self.text(v)};\n" for k, v in x.attrs) + "}"

    def print_Alias(self, x: n.Alias) -> str:
        return f"{x.keyword} = " + " ".join(self.text(s) for s in x.sockets)

    def print_Flags(self, x: n.Flags) -> str:
        return f"{x.keyword} " + ", ".join(quote(k) + (f":{v}" if v is not None else "") for k, v in x.flags)

    def print_LoadModule(self, x: n.LoadModule) -> str:
        return f"{x.keyword} {quote(x.name)}" if x.opts is None else f"{x.keyword}({quote(x.name)}, {quote(x.opts)})"

    def print_LoadPath(self, x: n.LoadPath) -> str:
        return f"{x.keyword} {quote(x.path)}"

    def print_CfgEngine(self, x: n.CfgEngine) -> str:
        return f"cfgengine {quote(x.engine)}"

    def print_ModParam(self, x: n.ModParam) -> str:
        return f"{x.keyword}({self.text(x.module)}, {self.text(x.param)}, {self.text(x.value)})"


def print_node(node: n.Node) -> str:
    """One node, say an expression."""
    return Printer().text(node)


def print_cfg(cfg: n.CfgFile) -> str:
    """The whole configuration; defines are expanded and includes inlined, as the parser saw them."""
    printer = Printer()
    head = "#!KAMAILIO\n" if cfg.kamailio_mode else ""
    return head + ("\n".join(printer.text(item) for item in cfg.items) or ";") + "\n"


def same(a: Any, b: Any) -> bool:
    """Whether two trees say the same: spans, quotes and braces are how it was written, not what."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if not isinstance(a, n.Node) or not isinstance(b, n.Node):
        return bool(a == b)
    if isinstance(a, n.CfgFile) and isinstance(b, n.CfgFile):
        return same(a.items, b.items)
    if type(a) is not type(b):
        return False
    ignored = {"span", "name_span", "seen", "quote", "braces", "text" if isinstance(a, n.Int) else "", "compat"}
    return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name not in ignored)
