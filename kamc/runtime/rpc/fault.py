"""How an RPC command says no."""

from __future__ import annotations


class RpcFault(Exception):  # noqa: N818 - the field's word for it
    """An answer that says no: Kamailio's code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text
