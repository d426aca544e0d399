"""Writes docs/modules/: a page per module from what it declares, beside what Kamailio has. ``python tools/module_pages.py``; a test keeps them true."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from kamc import catalogue
from kamc.declare.module import Module, ParamDecl
from kamc.declare.routes import Routes
from kamc.registry import find_module, shipped

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "modules"


def _first_line(text: str | None) -> str:
    """What a docstring begins with, as a cell of a table."""
    sentence = " ".join((text or "").split("\n\n")[0].split())
    return sentence.replace("``", "`").replace("|", "\\|")


def _doc(cls: type[Module], method: str) -> str:
    """Of a method itself: what another one's documentation would say is not repeated."""
    found = inspect.getattr_static(cls, method, None)
    return _first_line(getattr(found, "__doc__", None) or getattr(getattr(found, "__func__", None), "__doc__", None))


def _names(cls: type[Module], method: str, count: int) -> tuple[str, ...]:
    """Of the arguments, as the method has them."""
    return tuple(getattr(cls, method).__code__.co_varnames[2 : 2 + count])


def _routes(routes: Routes) -> str:
    return "any" if routes == Routes.ANY else ", ".join(r.name.lower() for r in Routes if r.name and r in routes and r.value.bit_count() == 1)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["", "| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |", *("| " + " | ".join(row) + " |" for row in rows)] if rows else []


def _value(value: object) -> str:
    return "" if value is None else f"`{value}`" if not isinstance(value, str) else f'`"{value}"`'.replace("|", "\\|")


def _param_row(cls: type[Module], p: ParamDecl) -> tuple[str, ...]:
    kinds = "number or text" if len(p.types) > 1 else "number" if p.types[0] is int else "text"
    return f"`{p.name}`", kinds, _value(p.default) if p.setter is None else "may be set several times", _doc(cls, p.setter) if p.setter is not None else ""


def _missing(label: str, names: set[str]) -> list[str]:
    return ["", f"Not there ({label}): {', '.join(f'`{n}`' for n in sorted(names))}."] if names else []


def _intro(cls: type[Module]) -> list[str]:
    text = sys.modules[cls.__module__].__doc__ or ""
    _, _, rest = text.strip().partition(": ")
    whole = (rest or text).strip().replace("``", "`")
    return (whole[:1].upper() + whole[1:]).splitlines()


def page(name: str) -> str:
    """The page of a module that is implemented."""
    cls = find_module(name)
    assert cls is not None
    d, known = cls.declarations(), catalogue.modules()[name]
    lines = [f"# {name}", "", *_intro(cls)]
    if cls.depends:
        lines += ["", f"Needs {', '.join(f'`{n}`' for n in cls.depends)}."]
    lines += ["", "## Functions"]
    rows = []
    for function, overloads in sorted(d.functions.items()):
        for f in overloads:
            shown = [f"{name}" for name in _names(cls, f.method, len(f.args))]
            needed, optional = shown[: f.required], shown[f.required :]
            args = ", ".join(needed) + (f"[{', ' if needed else ''}{', '.join(optional)}]" if optional else "")
            rows.append((f"`{function}({args})`", _routes(f.routes), "waits" if f.waits or f.suspends else "", _doc(cls, f.method)))
    lines += _table(("function", "routes", "", "what it does"), rows) or ["", "None."]
    lines += _missing("functions", set(known["functions"]) - set(d.functions))
    lines += ["", "## Parameters"]
    lines += _table(("parameter", "kind", "default", ""), [_param_row(cls, p) for _, p in sorted(d.params.items())]) or ["", "None that has an effect."]
    idle = {*cls.tuning_params, *cls.ignored_params}
    if idle:
        lines += ["", f"Accepted, without effect here: {', '.join(f'`{n}`' for n in sorted(idle))}."]
    lines += _missing("parameters", set(known["params"]) - set(d.params) - idle)
    if d.pvs:
        lines += ["", "## Variables"]
        lines += _table(("variable", "", "what it is"), [(f"`${n}{'' if p.inner == 'none' else '(...)'}`", "may be set" if p.writable else "", _doc(cls, p.method))
                                                         for n, p in sorted(d.pvs.items())])  # fmt: skip
    lines += _missing("variables", {v.partition("(")[0] for v in known["pvs"]} - set(d.pvs))
    if d.transformations:
        lines += ["", f"Transformations: {', '.join(f'`{{{n}}}`' for n in sorted(d.transformations))}."]
    if d.rpcs:
        lines += ["", "## RPC commands"]
        lines += _table(("command", "what it does"), [(f"`{n}`", _first_line(r.doc)) for n, r in sorted(d.rpcs.items())])
    lines += _missing("commands", set(known["rpc"]) - set(d.rpcs))
    if known.get("event_routes"):
        lines += ["", f"Event routes: {', '.join(f'`event_route[{n}]`' for n in known['event_routes'])}."]
    return "\n".join(lines) + "\n"


def index() -> str:
    """The list of all modules of Kamailio."""
    there = [n for n in shipped() if n in catalogue.modules()]
    rows = []
    for name in there:
        cls = find_module(name)
        assert cls is not None
        d, known = cls.declarations(), catalogue.modules()[name]
        counts = []
        for mine, theirs in ((set(d.functions), set(known["functions"])), (set(d.params) | {*cls.tuning_params, *cls.ignored_params}, set(known["params"])),
                             (set(d.rpcs), set(known["rpc"]))):  # fmt: skip
            counts.append(f"{len(mine & theirs)} of {len(theirs)}" if theirs else "")
        rows.append((f"[{name}]({name}.md)", *counts))
    missing = sorted(set(catalogue.modules()) - set(there))
    return "\n".join(["# Modules", "", "What kamc has of each module of Kamailio: functions, parameters and RPC commands of its catalogue.",
                      "Made by `tools/module_pages.py` from what the modules declare.", *_table(("module", "functions", "parameters", "RPC"), rows), "",
                      f"Not there: {', '.join(missing)}."]) + "\n"  # fmt: skip


def pages() -> Iterator[tuple[str, str]]:
    """(file name, text)."""
    yield "README.md", index()
    for name in shipped():
        if name in catalogue.modules():
            yield f"{name}.md", page(name)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    made = dict(pages())
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {FOLDER.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
