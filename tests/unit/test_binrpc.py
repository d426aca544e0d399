"""The binary RPC protocol: values, packets, streams, and bytes that are none of these."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamc.runtime.rpc import binrpc
from kamc.runtime.rpc.binrpc import ARRAY, REPLY, REQUEST, STRUCT, BinrpcError, Reader, decode, encode, fault, packet, reply, single

TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=40)
LEAF = st.integers(-(1 << 62), (1 << 62)) | TEXT
VALUES = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(bool), inner, max_size=4), max_leaves=12)


def joined(value: object) -> object:
    """A list of structures in a structure is one structure on the wire, in which those with one name that is a structure itself lose theirs; where all do, a
    reader keeps the last of names that repeat."""
    if isinstance(value, list):
        return [joined(item) for item in value]
    if not isinstance(value, dict):
        return value

    def member(item: object) -> object:
        if not isinstance(item, list) or not all(isinstance(one, dict) for one in item):
            return joined(item)
        named = [len(one) == 1 and isinstance(next(iter(one.values())), dict | list) for one in item]
        found = [joined(one) for one in item]
        return found if not all(named) else {key: inner for one in found for key, inner in one.items()}

    return {key: member(item) for key, item in value.items()}


@given(VALUES)
def test_values_come_back(value: object) -> None:
    assert decode(encode(value)) == [joined(value)]


def test_structures_in_a_list_of_a_structure_keep_their_names() -> None:
    data = encode({"aliases": [{"alias": {"a": 1}}, {"alias": {"a": 2}}]})
    assert data.count(b"alias\0") == 2
    assert bytes([ARRAY]) not in (data[:1], data[10:11])
    assert decode(data) == [{"aliases": {"alias": {"a": 2}}}]
    # as kamcmd shows htable.dump and dlg.list of Kamailio
    assert decode(encode({"slot": [{"name": "a", "value": 1}], "variables": [{"k": "v"}], "list": []})) == [
        {"slot": [{"name": "a", "value": 1}], "variables": [{"k": "v"}], "list": {}}]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, "00"), (17, "1011"), (300, "20012c"), (-1, "40ffffffff"), ("ab", "31616200"), ("", "1100"), ("abcdefgh", "9109616263646566676800"), (1.5, "2205dc"),
     (True, "1001"), (None, "910e3c6e756c6c20737472696e673e00"), ([1], "04100184"), ({"a": 1}, "03256100100183")],
)  # fmt: skip
def test_bytes_of_values(value: object, data: str) -> None:
    assert encode(value).hex() == data


def test_packets() -> None:
    call = packet(REQUEST, b"cook", encode("core.echo") + encode(5))
    found = single(call, 1000)
    assert (found.kind, found.cookie, found.values) == (REQUEST, b"cook", ["core.echo", 5])
    assert single(reply(b"c", ["a", {"b": 1}]), 1000).values == ["a", {"b": 1}]
    assert single(reply(b"c", None), 1000).values == []
    failed = single(fault(b"c", 404, "no"), 1000)
    assert (failed.kind, failed.values) == (3, [404, "no"])


def test_streams_in_any_pieces() -> None:
    data = packet(REQUEST, b"1", encode("a")) + packet(REPLY, b"2222", encode("b" * 300))
    for size in (1, 2, 3, 7, len(data)):
        reader = Reader(1000)
        found = [p for at in range(0, len(data), size) for p in reader.feed(data[at : at + size])]
        assert [(p.cookie, p.values) for p in found] == [(b"1", ["a"]), (b"2222", ["b" * 300])]


@pytest.mark.parametrize(
    "data",
    ["", "00", "a1", "a200016141", "a1000a6110", "a10001617f", "a10001611f", "a1000161" + f"{0x80 | STRUCT:02x}", "a1000161" + f"{STRUCT:02x}", "a100026103" + "10",
     "a1000461100190" + "ff", "a10006619f0000000000", "a1000361256100", "a1000261" + f"{ARRAY:02x}" + "15"],
)  # fmt: skip
def test_what_is_no_packet(data: str) -> None:
    with pytest.raises(BinrpcError):
        single(bytes.fromhex(data), 1000)


def test_bounds() -> None:
    with pytest.raises(BinrpcError, match="too long"):
        single(packet(REQUEST, b"1", encode("x" * 2000)), 1000)
    deep: object = 1
    for _ in range(binrpc.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(BinrpcError, match="too deep"):
        decode(encode(deep))


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    for raw in (data, b"\xa1" + data):
        try:
            list(Reader(64).feed(raw))
        except BinrpcError:
            continue
