"""What RPC commands give, on its way to another process."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """What a command gives, as values that ``marshal`` and JSON know."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, int):
        return int(value)
    return str(value)
