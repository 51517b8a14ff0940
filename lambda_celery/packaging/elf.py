"""What the head of a native library of Linux tells of where it runs."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

MAGIC = b"\x7fELF"
#: By the machine's name, what stands in the head of the file (``e_machine``).
_MACHINES = {62: "x86_64", 183: "aarch64"}
_LITTLE_ENDIAN = b"\x01"
_64_BITS = 2
#: The section that lists the versions of other libraries that this one needs.
_GNU_VERNEED = 0x6FFFFFFE
_GLIBC = re.compile(r"GLIBC_2\.(\d+)(?:\.\d+)?")


@dataclass(frozen=True)
class Library:
    """A library, or a program.

    Attributes:
        machine: what Linux calls its processor, or its number.
        glibc_minor: the 2nd part of the C library's version that it needs; 0: of none.
    """

    machine: str
    glibc_minor: int


def read(data: bytes) -> Library:
    """Return what the ELF file *data* tells.

    A file of 32 bits tells its machine alone, and so does one that is cut off. Raises
    :exc:`struct.error` if not even that is there.
    """
    order = "<" if data[5:6] == _LITTLE_ENDIAN else ">"
    (number,) = struct.unpack_from(f"{order}H", data, 18)
    minor = 0
    if data[4] == _64_BITS:
        try:
            minor = max(_glibc_minors(data, order), default=0)
        except (struct.error, IndexError, ValueError):
            minor = 0
    return Library(_MACHINES.get(number, f"processor {number}"), minor)


def _glibc_minors(data: bytes, order: str) -> list[int]:
    """Return the minor versions of glibc that are needed, as /usr/include/elf.h lays them out."""
    (sections_at,) = struct.unpack_from(f"{order}Q", data, 40)
    size, count = struct.unpack_from(f"{order}HH", data, 58)
    # Of each section: its kind, where it is, how long it is, which one has its names, and how
    # many entries it has.
    sections = [
        struct.unpack_from(f"{order}4xI16xQQII", data, sections_at + size * index)
        for index in range(count)
    ]
    minors = []
    for kind, offset, _, link, entries in sections:
        if kind != _GNU_VERNEED:
            continue
        names_at = sections[link][1]
        at = offset
        for _ in range(entries):
            versions, first, following = struct.unpack_from(f"{order}2xH4xII", data, at)
            auxiliary = at + first
            for _ in range(versions):
                name, after = struct.unpack_from(f"{order}8xII", data, auxiliary)
                text = data[names_at + name : data.index(b"\0", names_at + name)].decode("latin-1")
                if found := _GLIBC.fullmatch(text):
                    minors.append(int(found[1]))
                if not after:
                    break
                auxiliary += after
            if not following:
                break
            at += following
    return minors
