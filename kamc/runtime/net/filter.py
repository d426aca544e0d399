"""A filter in the kernel that gives a datagram to the socket of the worker that owns it, so that nothing has to be handed over.

The sockets of one UDP address form a group (SO_REUSEPORT), and a classic BPF program over the payload may say which of them takes a datagram
(``SO_ATTACH_REUSEPORT_CBPF``, socket(7)). This one says what :func:`kamc.runtime.net.steer.owner` says, for messages as nearly everybody writes them: ``Call-ID: ``
in a request, our own branch in a reply. All others go where the kernel would have sent them, and the worker there hands them over. Programs of this kind
have no loops and at most 4,096 instructions, which bounds how far into a message they look.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

from kamc.runtime.net.steer import HASHED, PRIME, SPREAD

_SO_ATTACH_REUSEPORT_CBPF: Final = 51
#: how far into a request the program looks for the Call-ID, in bytes: kernels before 6.9 take only small programs
_REACHES: Final = (768, 512, 320, 160)
#: where the branch of a reply may begin: behind the status line and the name of the header
_BRANCH_FROM: Final = 24
_BRANCH_TO: Final = 280
#: more than there are sockets: the kernel chooses by the addresses
_ANY: Final = 0xFFFFFFFF
_SHORTEST: Final = 16
_STRIDE: Final = 4
#: strides between two looks at the length of the datagram
_BLOCK: Final = 4

# the instructions that are used, as linux/bpf_common.h numbers them
_LD_LENGTH, _LD_AT, _LDB_AT_X, _LD_AT_X = 0x80, 0x20, 0x50, 0x40
_LD_NUMBER, _LDX_NUMBER, _LD_MEM, _LDX_MEM, _ST, _STX = 0x00, 0x01, 0x60, 0x61, 0x02, 0x03
_ADD, _SUB, _TIMES, _SHIFT, _HALVE, _MOD, _OR_X = 0x04, 0x14, 0x24, 0x64, 0x74, 0x94, 0x4C
_JUMP, _IF_EQUAL, _IF_ABOVE, _IF_AT_LEAST = 0x05, 0x15, 0x25, 0x35
_RET_NUMBER, _RET_A, _A_TO_X, _X_TO_A = 0x06, 0x16, 0x07, 0x87
_HASH, _FOUND = 0, 1


class _Program:
    """Instructions; jumps to the labels are filled in at the end."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int]] = []
        self._labels: dict[str, int] = {}
        self._jumps: dict[int, str] = {}

    def do(self, code: int, value: int = 0, yes: int = 0, no: int = 0) -> None:
        """One instruction; a comparison skips ``yes`` or ``no`` instructions."""
        self._rows.append((code, yes, no, value))

    def jump(self, label: str) -> None:
        self._jumps[len(self._rows)] = label
        self.do(_JUMP)

    def unless(self, code: int, value: int, label: str) -> None:
        """Go to a label when a comparison does not hold."""
        self.do(code, value, yes=1)
        self.jump(label)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._rows)

    def rows(self) -> list[tuple[int, int, int, int]]:
        done = list(self._rows)
        for at, label in self._jumps.items():
            done[at] = (_JUMP, 0, 0, self._labels[label] - at - 1)
        return done


def _word(text: bytes) -> int:
    return int.from_bytes(text, "big")


def _scan(program: _Program, text: bytes, begin: int, end: int, found: str) -> None:
    """Look for the first 7 bytes of ``text``, a word in each stride: whatever its place, one word lies within it. X says where it begins."""
    for n, at in enumerate(range(begin, end, _STRIDE)):
        if n % _BLOCK == 0:
            program.do(_LD_LENGTH)
            program.unless(_IF_AT_LEAST, at + _STRIDE * _BLOCK, "any")
        program.do(_LD_AT, at)
        for shift in range(_STRIDE):
            program.do(_IF_EQUAL, _word(text[shift : shift + _STRIDE]), no=2)
            program.do(_LDX_NUMBER, at - shift)
            program.jump(found)
    program.jump("any")


def program(count: int, reach: int) -> list[tuple[int, int, int, int]]:
    """Rows of (code, jump when true, jump when false, value) for ``count`` workers, which look for a Call-ID in the first ``reach`` bytes."""
    p = _Program()
    p.do(_LD_LENGTH)
    p.unless(_IF_AT_LEAST, _SHORTEST, "any")
    p.do(_LD_AT, 0)
    p.unless(_IF_EQUAL, _word(b"SIP/"), "request")
    _scan(p, b"z9hG4bK", _BRANCH_FROM, _BRANCH_TO, "branch")

    p.label("branch")
    p.do(_LD_AT_X, 3)
    p.unless(_IF_EQUAL, _word(b"G4bK"), "any")
    p.do(_LDB_AT_X, 7)
    p.do(_IF_ABOVE, ord("9"), yes=2)
    p.do(_SUB, ord("0"))
    p.do(_RET_A)
    p.do(_SUB, ord("a") - 10)
    p.do(_RET_A)

    p.label("request")
    _scan(p, b"Call-ID", _STRIDE, reach, "call-id")

    p.label("call-id")
    p.do(_LD_AT_X, 4)
    p.unless(_IF_EQUAL, _word(b"-ID:"), "any")
    p.do(_LDB_AT_X, 8)
    p.unless(_IF_EQUAL, ord(" "), "any")
    p.do(_X_TO_A)
    p.do(_ADD, 9)
    p.do(_A_TO_X)
    p.do(_STX, _FOUND)
    p.do(_LD_NUMBER, 0)
    p.do(_ST, _HASH)
    for n in range(HASHED):
        p.do(_LDX_MEM, _FOUND)
        p.do(_LDB_AT_X, n)
        p.unless(_IF_ABOVE, ord(" "), "hashed")
        p.do(_A_TO_X)
        p.do(_LD_MEM, _HASH)
        p.do(_SHIFT, 8)
        p.do(_OR_X)
        p.do(_MOD, PRIME)
        p.do(_ST, _HASH)
    p.label("hashed")
    p.do(_LD_MEM, _HASH)
    p.do(_TIMES, SPREAD)
    p.do(_HALVE, 16)
    p.do(_MOD, count)
    p.do(_RET_A)
    p.label("any")
    p.do(_RET_NUMBER, _ANY)
    return p.rows()


def steer_in_kernel(sock: socket.socket, count: int) -> bool:
    """Have the group of ``sock``, whose sockets are bound in the order of the workers, filled by owner. False where the kernel cannot."""
    for reach in _REACHES:
        rows = program(count, reach)
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
        # struct sock_fprog: the number of rows, and where they are
        head = struct.pack("@HP", len(rows), ctypes.addressof(code))
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, head)
        except OSError:
            continue
        return True
    return False
