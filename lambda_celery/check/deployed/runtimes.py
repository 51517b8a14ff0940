"""Until when Lambda keeps a runtime of Python."""

from __future__ import annotations

from datetime import date

#: When a runtime is deprecated: from then on it gets no security updates, and later no functions
#: can be created with it, or updated (AWS Lambda, "Lambda runtimes"; a test compares them with
#: those of cfn-lint).
DEPRECATED_ON = {
    "python3.8": date(2024, 10, 14),
    "python3.9": date(2025, 12, 15),
    "python3.10": date(2026, 10, 31),
    "python3.11": date(2027, 6, 30),
    "python3.12": date(2028, 10, 31),
    "python3.13": date(2029, 6, 30),
    "python3.14": date(2029, 6, 30),
}
#: So long before the end it is told.
NOTICE_DAYS = 180
