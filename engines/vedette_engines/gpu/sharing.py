"""Who goes next on a GPU that several engines share: weighted fair queueing of compute time.

Start-time fair queueing (Goyal, Vin, Cheng 1996) with several batches in service, as SFQ(D) (Jin, Chase, Kaur 2004):
each account has a virtual time, its compute seconds divided by its weight; the one that is furthest behind goes first.
Who was idle begins at the virtual time of the others: idling earns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

OWED_S = 0.25


@dataclass(slots=True, eq=False)
class Account:
    """What one engine was given.

    Attributes:
        weight: Its share against that of others, above 0.
        virtual_s: Compute seconds that it was given, by its weight.
        active: It has work under way or waiting.
    """

    weight: float = 1.0
    virtual_s: float = 0.0
    active: bool = False

    def charge(self, compute_s: float) -> None:
        """Take compute time from it; less than nothing gives back what was estimated too high."""
        self.virtual_s += compute_s / self.weight


class FairShare:
    """The virtual time of one GPU."""

    def __init__(self) -> None:
        self._virtual_s = 0.0

    def wake(self, account: Account) -> None:
        """Let one that was idle join those that have work: it neither owes nor has saved anything."""
        if not account.active:
            account.active = True
            account.virtual_s = max(account.virtual_s, self._virtual_s)

    def bound(self, account: Account) -> None:
        """Bound what one is owed that has work but too few lanes to take its share."""
        account.virtual_s = max(account.virtual_s, self._virtual_s - OWED_S / account.weight)

    def served(self, account: Account) -> None:
        """Note that a batch of an account begins, before it is charged."""
        self._virtual_s = max(self._virtual_s, account.virtual_s)
