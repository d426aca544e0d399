"""Import directions are law: the compiler and the runtime never import each other, the transaction layer touches no socket."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kamc.registry import find_module, shipped
from tests.conftest import ROOT

#: part → prefixes that it must not import
FORBIDDEN = {
    "kamc/declare": ("kamc.runtime", "kamc.analysis", "kamc.codegen", "kamc.parser", "kamc.lexer", "stdlib_modules"),
    "kamc/analysis": ("kamc.runtime", "kamc.codegen", "stdlib_modules", "kamc.parser", "kamc.lexer"),
    "kamc/codegen": ("kamc.runtime", "stdlib_modules", "kamc.parser", "kamc.lexer"),
    "kamc/grammar": ("kamc.runtime", "kamc.analysis", "kamc.codegen", "stdlib_modules"),
    "kamc/runtime": ("kamc.analysis", "kamc.codegen", "kamc.parser", "kamc.lexer", "kamc.compile", "kamc.cli", "stdlib_modules", "ply", "astor", "jinja2"),
    "kamc/runtime/sip": ("kamc.runtime.tm", "kamc.runtime.net", "kamc.runtime.proc", "kamc.runtime.context", "asyncio", "socket", "time", "os"),
    "kamc/runtime/tm": ("kamc.runtime.proc", "asyncio", "socket", "time", "os", "random"),
    "stdlib_modules": ("kamc.analysis", "kamc.codegen", "kamc.parser", "kamc.lexer", "kamc.compile", "kamc.runtime.proc", "ply", "astor", "jinja2"),
}
#: single files of the compiler at the top of the package
COMPILER_FILES = ("source.py", "diagnostics.py", "report.py", "preprocess.py", "tokens.py", "lexer.py", "frame.py", "parser.py", "nodes.py", "printer.py")


def imports_of(path: Path) -> set[str]:
    """Modules that are imported when the file is, or inside its functions; not those for type checking only."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(x) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) for x in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def hits(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in prefixes)


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_import_directions(part: str) -> None:
    wrong = {str(path.relative_to(ROOT)): sorted(bad) for path in (ROOT / part).rglob("*.py") if (bad := [i for i in imports_of(path) if hits(i, FORBIDDEN[part])])}
    assert wrong == {}


def test_the_front_end_stands_alone() -> None:
    for name in COMPILER_FILES:
        assert not [i for i in imports_of(ROOT / "kamc" / name) if hits(i, ("kamc.runtime", "stdlib_modules", "kamc.codegen", "kamc.analysis"))], name


def test_ply_astor_jinja_have_one_home_each() -> None:
    homes = {"ply": {"lexer.py", "parser.py"}, "astor": {"render.py"}, "jinja2": {"render.py"}}
    for path in (ROOT / "kamc").rglob("*.py"):
        for package, allowed in homes.items():
            if any(hits(i, (package,)) for i in imports_of(path)):
                assert path.name in allowed, f"{path} imports {package}"


def test_only_the_process_layer_forks() -> None:
    for path in [*(ROOT / "kamc").rglob("*.py"), *(ROOT / "stdlib_modules").rglob("*.py")]:
        if "os.fork" in path.read_text(encoding="utf-8"):
            assert path.parent.name == "proc", path


#: names that the module puts together, each of which a test sets
COMPOSED = {"rtpengine": re.compile(r"mos_\w+_pv")}


def test_every_parameter_is_read_by_something() -> None:
    """A parameter that is declared and never read would be ignored in silence: it belongs to ignored_params, or nowhere."""
    sources = "\n".join(path.read_text(encoding="utf-8") for part in ("kamc", "stdlib_modules") for path in (ROOT / part).rglob("*.py"))
    unread = []
    for name in shipped():
        found = find_module(name, ())
        params = found.declarations().params if found is not None else {}
        composed = COMPOSED.get(name)
        unread += [f"{name}.{p}" for p, d in params.items() if d.setter is None and not re.search(rf'(?:\bp|params)\.{p}\b|"{p}"', sources)
                   and not (composed is not None and composed.fullmatch(p))]  # fmt: skip
    assert unread == []
