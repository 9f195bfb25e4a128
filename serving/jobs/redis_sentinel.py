"""Redis behind Sentinels: every new connection asks them which server is the master now."""

from __future__ import annotations

import asyncio
import builtins
import time
from typing import Any

from redis.asyncio import Connection, Redis, SSLConnection
from redis.exceptions import ConnectionError, RedisError, ResponseError

# One that does not answer must leave time for the others.
SENTINEL_SECONDS = 1.0
# A master that is asked to step down goes on to take writes, which are lost, until its Sentinel tells it: up to ten
# seconds. So the Sentinels are asked again and again, and not only for new connections.
LOOK_SECONDS = 1.0
AWAY_SECONDS = 10.0


class Sentinels:
    """Those that watch one master.

    Args:
        addresses: of the Sentinels: hosts and ports.
        service: the name that they have for the master.
        options: of the connections to them, as redis-py names them.
    """

    def __init__(self, addresses: list[tuple[str, int]], service: str, options: dict[str, Any]) -> None:
        self._service = service
        self._clients = {f"{host}:{port}": Redis(host=host, port=port, **options) for host, port in addresses}
        self._look_at = 0.0
        self._left = False
        self.current: tuple[str, int] | None = None
        """The master that was found last."""

    async def master(self) -> tuple[str, int]:
        """Host and port of the master, as the first Sentinel says that knows of one that is up.

        Raises:
            ConnectionError: none does; what each of them says.
        """
        answers = []
        for address, client in self._clients.items():
            try:
                async with asyncio.timeout(SENTINEL_SECONDS):
                    masters: Any = await client.sentinel_masters()
            except builtins.TimeoutError:
                answers.append(f"{address} does not answer")
            except (RedisError, OSError) as error:
                answers.append(f"{address}: {_reason(error)}")
            else:
                state = masters.get(self._service)
                if state is None:
                    answers.append(f"{address} watches {', '.join(masters) or 'no master at all'}")
                elif state["is_master"] and not state["is_sdown"] and not state["is_odown"]:
                    return self._found((state["ip"], state["port"]))
                else:
                    answers.append(f"{address} says that it is down")
        raise ConnectionError(f"no Sentinel knows where the master {self._service} is: {'; '.join(answers)}")

    def _found(self, master: tuple[str, int]) -> tuple[str, int]:
        self._left |= self.current not in (None, master)
        self.current = master
        return master

    async def has_changed(self) -> bool:
        """Whether there is another master since the last time that this was asked. Looks at most once a second."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            try:
                await self.master()
            except ConnectionError:  # as long as they are away, the master is the one that it was
                self._look_at = time.monotonic() + AWAY_SECONDS
        changed, self._left = self._left, False
        return changed

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def _reason(error: Exception) -> str:
    if isinstance(error, ResponseError) and "unknown command" in str(error).lower():
        return "it is no Sentinel, but a Redis: redis:// instead of redis+sentinel://"
    return str(error)


class _ToMaster(Connection):
    """A connection to the server that is the master when it is made, or made again."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if not self.is_connected:
            self.host, self.port = await self._sentinels.master()
        await super().connect_check_health(check_health, retry_socket_connect)

    def should_reconnect(self) -> bool:
        """Asked by the pool when it gets the connection back."""
        again: bool = super().should_reconnect()  # type: ignore[no-untyped-call]
        return again or (self.host, self.port) != self._sentinels.current


class MasterConnection(_ToMaster):
    """Without TLS."""


class TlsMasterConnection(_ToMaster, SSLConnection):
    """With TLS."""
