"""``python -m tests.fuzz.guided -runs=100000``: atheris looks for inputs that lead to new branches.

The arguments are libFuzzer's. It ends with the first input that a reader neither reads nor calls
unreadable, and writes that to a file; given as an argument, the file is tried again.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["lambda_celery", "lambda_runtime"]):
    from tests.fuzz import test_readers
    from tests.fuzz.readers import read_bytes

#: The first byte of an input chooses one.
READERS = (
    test_readers.test_a_record_is_read_or_unreadable.hypothesis.fuzz_one_input,
    test_readers.test_headers_are_read_or_unreadable.hypothesis.fuzz_one_input,
    test_readers.test_what_is_to_follow_a_task_is_read_or_unreadable.hypothesis.fuzz_one_input,
    lambda data: read_bytes(test_readers.app, data),
)


def read(data: bytes) -> None:
    """Hand *data*, but for its first byte, to the reader that this one chooses."""
    READERS[(data or b"\0")[0] % len(READERS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
