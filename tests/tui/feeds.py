"""Feeds and commands for tests: what was recorded, at once or bit by bit, and a memory of what was asked for."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from replcheck.errors import StoreError
from replcheck.tui.feed import Offer, Offers, Take, Update


class ListFeed:
    """Hands over its updates when somebody subscribes, and more whenever a test wants."""

    def __init__(self, updates: Iterable[Update] = ()) -> None:
        self._updates = list(updates)
        self._take: Take | None = None

    def subscribe(self, take: Take) -> None:
        self._take = take
        self.tell(*self._updates)

    def tell(self, *updates: Update) -> None:
        assert self._take is not None
        for update in updates:
            self._take(update)


@dataclass
class Asked:
    """Remembers what was asked for."""

    offered: Offers = field(
        default_factory=lambda: Offers(
            audit=Offer(name="clinic", sentence="Every row of every relation is compared on db1, db2 and db3, gently."),
            drills=(Offer(name="nightly", sentence="It is restored into a scratch server and proven."),),
            controls=True,
        )
    )
    calls: list[str] = field(default_factory=list)
    report: str = ""

    def offers(self) -> Offers:
        return self.offered

    def start_audit(self) -> None:
        self.calls.append("start_audit")

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def cancel(self) -> None:
        self.calls.append("cancel")

    def start_drill(self, backup: str) -> None:
        self.calls.append(f"start_drill {backup}")

    def cancel_drill(self) -> None:
        self.calls.append("cancel_drill")

    def print_report(self, run_id: str, console, style) -> None:
        self.calls.append(f"report {run_id}")
        if not self.report:
            raise StoreError(f"run {run_id} has no report", hint="It was interrupted.")
        console.print(self.report)
