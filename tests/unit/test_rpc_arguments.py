"""Parameters of RPC commands: what a function declares is what it gets, whatever comes from outside."""

from __future__ import annotations

from typing import Any

import pytest

from kamc.runtime.rpc.commands import Command
from kamc.runtime.rpc.fault import RpcFault


def plain(name: str, number: int, share: float = 0.5, more: str | None = None) -> None: ...


def several(first: int, *rest: str) -> None: ...


def whatever(value: Any, other: int | str = 7) -> None: ...


@pytest.mark.parametrize(("function", "given", "taken"), [
    (plain, ["a", 1], ["a", 1]), (plain, [5, "7", 1, 2], ["5", 7, 1.0, "2"]), (plain, ["a", 1.0, "1e3", None], ["a", 1, 1000.0, None]),
    (plain, ["", True, None, "x"], ["", 1, 0.5, "x"]),
    (several, ["1", 2, "x", 3.5], [1, "2", "x", "3.5"]), (several, [1], [1]),
    (whatever, [[1, {}]], [[1, {}]]), (whatever, ["", "x"], ["", "x"]), (whatever, [0, 5], [0, 5]),
])  # fmt: skip
def test_what_a_function_gets(function: Any, given: list[Any], taken: list[Any]) -> None:
    assert Command(function).arguments(given) == taken


@pytest.mark.parametrize(("function", "given", "text"), [
    (plain, [], "400 error at parameter 0: expected string type but end of packet encountered"),
    (plain, ["a"], "400 error at parameter 1: expected integer type but end of packet encountered"),
    (plain, [None, 1], "400 error at parameter 0: expected string type but record doesn't match type"),
    (plain, ["a", "b"], "400 error at parameter 1: expected integer type but record doesn't match type"),
    (plain, ["a", float("inf")], "400 error at parameter 1: expected integer type but record doesn't match type"),
    (plain, ["a", 1, "x"], "400 error at parameter 2: expected float type but record doesn't match type"),
    (plain, [["a"], 1], "400 error at parameter 0: expected string type but record doesn't match type"),
    (plain, ["a", {}], "400 error at parameter 1: expected integer type but record doesn't match type"),
    (plain, ["a", 1, 1, "b", "c"], "400 Invalid Parameters"), (several, [1, []], "400 error at parameter 1: expected string type but record doesn't match type"),
    (several, [1, "a", None], "400 error at parameter 2: expected string type but record doesn't match type"),
    (whatever, [], "400 error at parameter 0: expected string type but end of packet encountered"),
])  # fmt: skip
def test_what_it_does_not_get(function: Any, given: list[Any], text: str) -> None:
    with pytest.raises(RpcFault) as found:
        Command(function).arguments(given)
    assert f"{found.value.code} {found.value.text}" == text


@pytest.mark.parametrize(("wrong", "text"), [
    ("Missing", "500 Missing"), ("404 Gone", "404 Gone"), ("400 only {} of 2", "400 only 1 of 2"), ("no {braces} here", "500 no {braces} here"),
])  # fmt: skip
def test_texts_of_a_command(wrong: str, text: str) -> None:
    with pytest.raises(RpcFault) as found:
        Command(plain, wrong=wrong).arguments(["a"])
    assert f"{found.value.code} {found.value.text}" == text
