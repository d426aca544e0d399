"""Perl-compatible regular expressions by the system's libpcre2, with a bound on how far one match may search."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import lru_cache
from typing import Any, Final

CASELESS, DOTALL, EXTENDED, MULTILINE = 0x8, 0x20, 0x80, 0x400
_NO_MATCH: Final = -1
#: steps of backtracking: some milliseconds
_STEPS: Final = 200_000


class PcreError(ValueError):
    """A pattern that cannot be compiled."""


@lru_cache(maxsize=1)
def library() -> Any:
    """libpcre2-8 with its types. Raises OSError when it is not there."""
    name = ctypes.util.find_library("pcre2-8") or "libpcre2-8.so.0"
    lib = ctypes.CDLL(name)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    lib.pcre2_compile_8.restype = pointer
    lib.pcre2_compile_8.argtypes = [ctypes.c_char_p, size, ctypes.c_uint32, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(size), pointer]
    lib.pcre2_code_free_8.argtypes = [pointer]
    lib.pcre2_match_context_create_8.restype = pointer
    lib.pcre2_match_context_create_8.argtypes = [pointer]
    lib.pcre2_set_match_limit_8.argtypes = [pointer, ctypes.c_uint32]
    lib.pcre2_match_data_create_8.restype = pointer
    lib.pcre2_match_data_create_8.argtypes = [ctypes.c_uint32, pointer]
    lib.pcre2_match_8.argtypes = [pointer, ctypes.c_char_p, size, size, ctypes.c_uint32, pointer, pointer]
    lib.pcre2_get_error_message_8.argtypes = [ctypes.c_int, ctypes.c_char_p, size]
    return lib


@lru_cache(maxsize=1)
def _shared() -> tuple[int, int]:
    """A match context with the bound, and room for one pair of offsets: a worker matches one text at a time."""
    lib = library()
    context = lib.pcre2_match_context_create_8(None)
    lib.pcre2_set_match_limit_8(context, _STEPS)
    return context, lib.pcre2_match_data_create_8(1, None)


class Pcre:
    """One compiled pattern. Raises PcreError."""

    def __init__(self, pattern: str, options: int = 0) -> None:
        lib = library()
        raw, code, offset = pattern.encode("latin-1", "replace"), ctypes.c_int(), ctypes.c_size_t()
        self._code: int | None = lib.pcre2_compile_8(raw, len(raw), options, ctypes.byref(code), ctypes.byref(offset), None)
        self._free = lib.pcre2_code_free_8
        if not self._code:
            text = ctypes.create_string_buffer(256)
            lib.pcre2_get_error_message_8(code.value, text, len(text))
            raise PcreError(f"{text.value.decode('latin-1')} at offset {offset.value}")

    def __del__(self) -> None:
        if getattr(self, "_code", None):
            self._free(self._code)

    def matches(self, text: str) -> bool:
        """Raises PcreError for a search that goes beyond all bounds."""
        raw = text.encode("latin-1", "replace")
        context, data = _shared()
        found: int = library().pcre2_match_8(self._code, raw, len(raw), 0, 0, data, context)
        if found < _NO_MATCH:
            raise PcreError(f"the search was given up (error {found})")
        return found >= 0
