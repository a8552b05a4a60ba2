"""What the processes of a node and the controller have to say, gathered when somebody looks.

What was heard once is remembered: a replica that has died cannot be asked any more for the error it died of.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import chain
from typing import Protocol

from meshserve.model.notice import Notice
from meshserve.proxy.discovery import Process
from meshserve.proxy.peers import Peers
from meshserve.telemetry.notices import NOTICES

REMEMBERED = 200

ALIKE = 20
"""Of notices that say the same about the same deployment so many are remembered: an error that every request meets must
not push out everything else."""


class Speakers(Protocol):
    """Who is to be asked: `proxy.discovery.Discovery`."""

    async def speakers(self) -> list[Process]:
        """The processes."""


class NoticeBoard:
    """See the module. Lives on the I/O thread.

    Args:
        speakers: who is to be asked.
        token: of the mesh.
    """

    def __init__(self, speakers: Speakers, token: str) -> None:
        self._speakers = speakers
        self._peers = Peers(token)
        self._known: dict[tuple[str, int, float], Notice] = {}

    async def newest(self) -> list[Notice]:
        """The newest of all, the newest first."""
        await self._peers.follow(await self._speakers.speakers())
        said = await asyncio.gather(*(peer.notices() for peer in self._peers))
        for one in chain(NOTICES.newest(), *said):
            self._known[one.source, one.number, one.at_s] = one
        newest = sorted(self._known.items(), key=lambda entry: entry[1].at_s, reverse=True)
        alike: Counter[tuple[str, str, str]] = Counter()
        self._known = {}
        for key, one in newest:
            alike[one.application, one.deployment, one.text] += 1
            if len(self._known) < REMEMBERED and alike[one.application, one.deployment, one.text] <= ALIKE:
                self._known[key] = one
        return list(self._known.values())

    async def close(self) -> None:
        """Ends all connections."""
        await self._peers.close()
