"""Generated trees → readable Python source (astor), with the cfg line of every generated line."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import astor
import jinja2

from kamc import __version__
from kamc.codegen import GeneratedModule, GeneratedProgram
from kamc.errors import KamcBug

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("kamc.codegen", "templates"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
)


@dataclass(frozen=True, slots=True)
class RenderedSource:
    """``line_map``: (line of the text, file, line of the cfg)."""

    text: str
    line_map: tuple[tuple[int, str, int], ...]


def render_module(program: GeneratedProgram, module: GeneratedModule) -> RenderedSource:
    """One readable module. The text is parsed again and compared with the tree, so what is read is what runs.

    The tree is compared as the parser would give it: without constants that Python's grammar spells as operators.
    """
    banner = _TEMPLATES.get_template("banner.py.j2").render(program=program, module=module, version=__version__)
    lines = banner.rstrip("\n").split("\n")
    mapping: list[tuple[int, str, int]] = []
    for function, file in zip(module.functions, module.files, strict=True):
        lines += ["", "", f"# {file}:{function.lineno}"]
        # astor leaves marks on the nodes, so it gets a copy
        copied = ast.fix_missing_locations(_copy(function))
        plain = ast.parse(ast.unparse(copied)).body[0]
        text = to_source(copied)
        again = ast.parse(text).body[0]
        if ast.dump(again) != ast.dump(plain):
            raise KamcBug(f"astor changed the meaning of {function.name}")
        offset = len(lines)
        mapping += [(offset + new, file, old) for new, old in _pairs(again, function)]
        lines += text.rstrip("\n").split("\n")
    return RenderedSource("\n".join(lines) + "\n", tuple(sorted(set(mapping))))


def to_source(tree: ast.AST) -> str:
    """One statement, one line."""
    text: str = astor.to_source(tree, pretty_source="".join)
    return text


def _copy(value: Any) -> Any:
    """A tree of its own; many times as fast as the general ``copy.deepcopy``."""
    if isinstance(value, list):
        return [_copy(item) for item in value]
    if not isinstance(value, ast.AST):
        return value
    fresh = type(value)()
    for key, item in vars(value).items():
        setattr(fresh, key, _copy(item))
    return fresh


def _pairs(new: ast.AST, old: ast.AST) -> list[tuple[int, int]]:
    """Line pairs of statements at the same place in two equal trees."""
    news = [x for x in ast.walk(new) if isinstance(x, ast.stmt)]
    olds = [x for x in ast.walk(old) if isinstance(x, ast.stmt)]
    return [(a.lineno, b.lineno) for a, b in zip(news, olds, strict=True)]


def render_constants(program: GeneratedProgram) -> str:
    return _TEMPLATES.get_template("constants.py.j2").render(program=program, version=__version__)


def render_params(program: GeneratedProgram) -> str:
    return _TEMPLATES.get_template("params.py.j2").render(program=program, version=__version__)
