"""How the screen is set up when it starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from replcheck.tui.feed import Asked


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the screen is told about the cluster, the reader and their terminal."""

    cluster: str
    asked: Asked = Asked()  # noqa: RUF009 - frozen
    zone: tzinfo | None = None
    """In which times are shown; None is the machine's."""
    ascii_only: bool = False
    """Whether the locale has nothing but ASCII."""
    light: bool = False
    clock: Callable[[], datetime] = _utc_now
    """Returns the time, aware."""


def is_light(environment: Mapping[str, str]) -> bool:
    """Return whether the terminal tells that its background is light (COLORFGBG of rxvt and its kin).

    >>> is_light({"COLORFGBG": "0;15"}), is_light({"COLORFGBG": "15;default;0"}), is_light({})
    (True, False, False)
    """
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return background in {"7", "15"}
