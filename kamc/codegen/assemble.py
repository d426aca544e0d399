"""Generated trees → code objects. File names and positions are the cfg's, so tracebacks, pdb, coverage and profilers speak of it."""

from __future__ import annotations

import ast
import importlib.util
import marshal
from types import CodeType

from kamc.codegen import GeneratedModule, GeneratedProgram


def assemble_module(program: GeneratedProgram, module: GeneratedModule) -> CodeType:
    """One code object that defines all functions of a route kind."""
    tree = ast.Module(body=list(module.functions), type_ignores=[])
    code = compile(tree, program.entry, "exec", dont_inherit=True, optimize=0)
    names = {f.name: file for f, file in zip(module.functions, module.files, strict=True)}
    consts = tuple(rename(c, names[c.co_name]) if isinstance(c, CodeType) and c.co_name in names else c for c in code.co_consts)
    return code.replace(co_consts=consts)


def rename(code: CodeType, file: str) -> CodeType:
    """The same code under another file name, nested code included."""
    consts = tuple(rename(c, file) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_filename=file, co_consts=consts)


def assemble_text(text: str, file: str) -> CodeType:
    return compile(text, file, "exec", dont_inherit=True, optimize=0)


def to_pyc(code: CodeType, digest: bytes) -> bytes:
    """A sourceless .pyc: hash-based header with the digest of the sources, then the code.

    marshal version 2 writes no back references, whose presence depends on reference counts: the same input gives the same bytes.
    """
    flags = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + digest[:8] + marshal.dumps(code, 2)
