"""Channels to the processes the controller steers: one for each address, opened on first use. On the I/O thread."""

from __future__ import annotations

import asyncio

import grpc.aio

from meshserve.rpc.channel import internal_channel


class Connections:
    """Keeps channels."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, address: str) -> grpc.aio.Channel:
        """The channel to an address."""
        if address not in self._channels:
            self._channels[address] = internal_channel(address)
        return self._channels[address]

    async def drop(self, address: str) -> None:
        """Closes the channel to a process that is gone."""
        channel = self._channels.pop(address, None)
        if channel is not None:
            await channel.close()

    async def close(self) -> None:
        """Closes all."""
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for channel in channels.values()))
