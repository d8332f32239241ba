"""Sizes and durations, read and written as PostgreSQL does (manual, Setting Parameters: Names and Values)."""

import math
import re

_SIZES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_CLOCK_NOISE_S = 1.0
"""By less than that, clocks that are right may differ."""
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_size(text: object) -> int:
    """Return bytes; raise ValueError where no unit of PostgreSQL's is given.

    >>> parse_size("64MB"), parse_size("1.5 kB")
    (67108864, 1536)
    """
    return round(_parse(text, _SIZES, "a size such as 64MB"))


def parse_duration(text: object) -> float:
    """Return seconds; raise ValueError where no unit of PostgreSQL's is given.

    >>> parse_duration("5min"), parse_duration("500ms")
    (300.0, 0.5)
    """
    return _parse(text, _DURATIONS, "a duration such as 5min")


def parse_percent(text: object) -> float:
    """Return a share above 0 and at most 1; raise ValueError for other than a percentage with its sign.

    >>> parse_percent("5%"), parse_percent("100%")
    (0.05, 1.0)
    """
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*", text, re.ASCII) if isinstance(text, str) else None
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise ValueError("must be a percentage such as 5%, above 0% and at most 100%")
    return share


def format_size(size_bytes: int) -> str:
    """Return a size for people, with one decimal below ten units.

    >>> format_size(0), format_size(8192), format_size(1_500_000), format_size(67108864)
    ('0B', '8kB', '1.4MB', '64MB')
    """
    unit, factor = next(
        ((unit, factor) for unit, factor in reversed(_SIZES.items()) if abs(size_bytes) >= factor), ("B", 1)
    )
    amount = size_bytes / factor
    return f"{amount:.1f}".removesuffix(".0") + unit if abs(amount) < 10 else f"{amount:.0f}{unit}"


def format_duration(seconds: float) -> str:
    """Return a duration for people, at most two units; one below nothing has its sign.

    >>> format_duration(0.0034), format_duration(4.25), format_duration(90), format_duration(7260), format_duration(-90)
    ('3ms', '4.2s', '1min 30s', '2h 1min', '-1min 30s')
    """
    if seconds < 0:
        return f"-{format_duration(-seconds)}".replace("-0ms", "0ms")
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(index for index, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount}{unit}" for amount, unit in parts[first : first + 2] if amount)


def format_ago(seconds: float) -> str:
    """Return how long ago something was; what a clock that was wrong has dated ahead reads so.

    >>> format_ago(7260), format_ago(-90)
    ('2h 1min ago', '1min 30s ahead of the clock')
    """
    return (
        f"{format_duration(-seconds)} ahead of the clock"
        if _is_ahead(seconds)
        else f"{format_duration(max(seconds, 0))} ago"
    )


def format_age(seconds: float) -> str:
    """Return how old something is, alike.

    >>> format_age(7260), format_age(-90)
    ('2h 1min old', 'dated 1min 30s ahead of the clock')
    """
    return f"dated {format_ago(seconds)}" if _is_ahead(seconds) else f"{format_duration(max(seconds, 0.0))} old"


def _is_ahead(seconds: float) -> bool:
    return seconds <= -_CLOCK_NOISE_S


def format_percent(percent: float) -> str:
    """Return a percentage for people, never rounded up: what is not all is not told as 100%, nor a little as nothing.

    >>> format_percent(99.99999), format_percent(100.0), format_percent(0.0001), format_percent(12.5)
    ('99.999%', '100%', '<0.001%', '12.5%')
    """
    floored = math.floor(percent * 1000) / 1000
    return f"{floored:g}%" if floored or percent <= 0 else "<0.001%"


def _parse(text: object, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"must be {example} (units: {', '.join(units)})")
    return float(match[1]) * units[match[2]]
