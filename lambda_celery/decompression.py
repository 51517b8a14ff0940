"""Decompressing bodies up to a size: kombu's own decoders know no bound.

A sender chooses the compression, and one megabyte of zlib can be a gigabyte of zeros. So only
those are read that can stop in the middle.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from lambda_celery.exceptions import UnreadableMessageError

#: lzma's preset 9 needs 65 MiB for its dictionary.
_LZMA_MEMORY_BYTES = 80 * 1024 * 1024


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def _lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)


#: By kombu's names and aliases. What it calls gzip is zlib's format.
DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    **dict.fromkeys(("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
    **dict.fromkeys(("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
    **dict.fromkeys(("application/x-lzma", "lzma", "xz"), _lzma),
}


def decompress(body: str | bytes, compression: Any, maximum_bytes: int) -> bytes:
    """Return *body* decompressed.

    :param compression: kombu's name for the format, as the message has it.
    :raises UnreadableMessageError: it is not that format, or larger than *maximum_bytes*, or
        the format is none that can be read up to a size.
    """
    make = DECOMPRESSORS.get(compression) if isinstance(compression, str) else None
    if make is None:
        raise UnreadableMessageError(
            f"The body is compressed with {compression!r}: zlib, bzip2 and lzma are read, because "
            "they can be read up to a size."
        )
    decompressor = make()
    try:
        data = body.encode() if isinstance(body, str) else body
        decompressed = decompressor.decompress(data, maximum_bytes + 1)
    except (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError) as exc:
        raise UnreadableMessageError(f"The body cannot be decompressed: {exc}.") from exc
    if len(decompressed) > maximum_bytes:
        raise UnreadableMessageError(
            f"The body has more than {maximum_bytes} bytes when it is decompressed."
        )
    if not decompressor.eof:
        raise UnreadableMessageError("The body cannot be decompressed: its end is missing.")
    return decompressed
