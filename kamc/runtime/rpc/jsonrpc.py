"""JSON-RPC 2.0 over text: request in, response out. Front ends (datagram socket, FIFO, HTTP) carry the text."""

from __future__ import annotations

import json
from typing import Any

from kamc.runtime.rpc.commands import RpcRegistry
from kamc.runtime.rpc.fault import RpcFault


def _number(digits: str) -> int:
    """Numbers as C reads them: beyond 64 bits they stay at the limit."""
    if len(digits) < 20:
        return int(digits)
    return -(1 << 63) if digits.startswith("-") else (1 << 63) - 1


def loads(text: str) -> Any:
    """JSON as it comes from outside. Raises ValueError, also for what is nested too deeply."""
    try:
        return json.loads(text, parse_int=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def handle(registry: RpcRegistry, text: str, *, pretty: bool = False, log: Any = None) -> tuple[str | None, int]:
    """Answer one request. Returns the response text (None for a notification or what cannot be read) and the HTTP-like status."""
    try:
        request = loads(text)
    except ValueError:
        return _dump(_error(None, -32700, "Parse error"), pretty), 400
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return _dump(_error(request.get("id") if isinstance(request, dict) else None, -32600, "Invalid Request"), pretty), 200
    ident = request.get("id")
    params = request.get("params", [])
    if isinstance(params, dict):
        params = list(params.values())
    if not isinstance(params, list):
        return _dump(_error(ident, -32602, "Invalid params"), pretty), 400
    try:
        result = registry.call(request["method"], params)
        # a command that says nothing answers with an empty structure
        response, status = {"jsonrpc": "2.0", "result": {} if result is None else result, "id": ident}, 200
    except RpcFault as fault:
        response, status = _error(ident, fault.code, fault.text), fault.code
    except Exception as err:  # a command's bug must not end the worker
        if log is not None:
            log.error("RPC %s failed: %r", request["method"], err)
        response, status = _error(ident, 500, "Internal Server Error"), 500
    if "id" not in request:
        return None, status
    return _dump(response, pretty), status


def _error(ident: Any, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": text}, "id": ident}


def _dump(data: dict[str, Any], pretty: bool) -> str:
    return json.dumps(data, indent=2 if pretty else None) + ("\n" if pretty else "")
