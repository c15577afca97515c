"""Limits on accepted connections, counted in all and by address.

Where there are too many, one connection is ended to make room: the oldest that never finished a
request's head, else the one that was idle longest, else the one whose request has been arriving
longest. If none qualifies, the newest connection is refused.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from ipaddress import IPv6Address, ip_address

from eenn.offload.cloud.settings import (
    IDLE_S,
    LOG_INTERVAL_S,
    MAX_REFUSED_CONNECTIONS,
    SENDING_S,
    SHARE_OF_ADDRESS,
)

LOG = logging.getLogger(__name__)


class Stage(IntEnum):
    """The stage of a connection, by what it waits for; earlier stages make room first."""

    ARRIVING = 0  # the head of its first request
    IDLE = 1  # its next request
    SENDING = 2  # the rest of a request
    BUSY = 3  # its answer
    REFUSED = 4  # its end


# Seconds of a stage after which a connection may be asked to make room.
_PATIENCE_S = {Stage.ARRIVING: 0.0, Stage.IDLE: IDLE_S, Stage.SENDING: SENDING_S}


class Visitor(ABC):
    """A connection that a gate counts.

    Args:
        address: the client's address from `network_of`.
    """

    stage = Stage.ARRIVING
    since_s = 0.0
    address = ""

    @abstractmethod
    def make_room(self) -> None:
        """End this connection, whose stage allows it, for a new one."""

    @abstractmethod
    def refuse_entry(self) -> None:
        """Reply that there are too many connections, and end this one."""

    @abstractmethod
    def cut_off(self) -> None:
        """End this connection at once."""


class Gate:
    """Counts connections and keeps them within limits.

    Args:
        limit: largest number of connections; one address gets SHARE_OF_ADDRESS of it.
        note: called with one word for every connection that was refused, or ended to make room.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, limit: int, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._limit_of_address = limit, max(int(SHARE_OF_ADDRESS * limit), 1)
        self._note, self._clock = note, clock
        # In each stage, the connections that have been in it longest come first.
        self._stages: dict[Stage, dict[Visitor, None]] = {stage: {} for stage in Stage}
        self._addresses = Counter[str]()
        self._noted = Counter[str]()
        self._logged_s = -LOG_INTERVAL_S

    def enter(self, visitor: Visitor) -> None:
        """Count an accepted connection, which may end another one or be refused."""
        self._put(visitor, Stage.ARRIVING)
        self._addresses[visitor.address] += 1
        inside = sum(len(those) for stage, those in self._stages.items() if stage != Stage.REFUSED)
        if self._addresses[visitor.address] > self._limit_of_address:
            self._let_in(visitor, visitor.address)
        elif inside > self._limit:
            self._let_in(visitor, None)

    def move(self, visitor: Visitor, stage: Stage) -> None:
        """Move a connection to another stage."""
        old = self._stages[visitor.stage]
        if visitor in old and visitor.stage not in (stage, Stage.REFUSED):
            del old[visitor]
            self._put(visitor, stage)

    def leave(self, visitor: Visitor) -> None:
        """Remove a connection from the counts, if it was counted."""
        if visitor in self._stages[visitor.stage]:
            del self._stages[visitor.stage][visitor]
            if visitor.stage != Stage.REFUSED:
                self._addresses[visitor.address] -= 1
                if not self._addresses[visitor.address]:
                    del self._addresses[visitor.address]

    def say(self, cause: str, message: str) -> None:
        """Count an event of a connection, and log the events at most once in LOG_INTERVAL_S."""
        self._note(cause)
        self._noted[message] += 1
        now = self._clock()
        if now - self._logged_s >= LOG_INTERVAL_S:
            self._logged_s = now
            for text, times in self._noted.items():
                LOG.warning("%d x %s", times, text)
            self._noted.clear()

    def _put(self, visitor: Visitor, stage: Stage) -> None:
        visitor.stage, visitor.since_s = stage, self._clock()
        self._stages[stage][visitor] = None

    def _let_in(self, newest: Visitor, address: str | None) -> None:
        """End a connection, of `address` if given, to make room; else refuse the newest."""
        now = self._clock()
        for stage, patience_s in _PATIENCE_S.items():
            for visitor in self._stages[stage]:
                if visitor is newest or now - visitor.since_s < patience_s:
                    break  # those behind it came later still
                if address in (None, visitor.address):
                    self.say("room", "a connection was ended to make room for a new one")
                    # Removed before it ends, so that the next new connection finds another one.
                    self.leave(visitor)
                    visitor.make_room()
                    return
        self.leave(newest)
        newest.stage = Stage.REFUSED
        self.say("connections", "a connection was refused, because there are too many")
        if len(self._stages[Stage.REFUSED]) < MAX_REFUSED_CONNECTIONS:
            self._stages[Stage.REFUSED][newest] = None
            newest.refuse_entry()
        else:
            newest.cut_off()


def network_of(peer: object) -> str:
    """Find the address to count a connection by: for IPv6 the first 64 bits, a client's network.

    Args:
        peer: address from `accept`; all peers without IP count as one address.
    """
    if not isinstance(peer, tuple):
        return ""
    address = ip_address(str(peer[0]).partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
