"""What both flavours of the Valkey engine do when they open: find the servers, and judge what they promise."""

from __future__ import annotations

import warnings

from redis.crc import key_slot

from factfold.errors import StoreUnavailableError
from factfold.storage._valkey_formats import preparing
from factfold.storage._valkey_log import Operations
from factfold.storage._valkey_servers import Promises, inspect
from factfold.storage._valkey_steps import Route, Rules, Steps
from factfold.storage._valkey_wire import Address, Keys
from factfold.storage.base import Capabilities
from factfold.storage.valkey import Valkey

warned: set[tuple[str, str]] = set()


class Place:
    """Servers, as one engine knows them."""

    def __init__(self, storage: Valkey) -> None:
        self.storage = storage
        self.server = storage.server()
        self.capabilities = Capabilities(locks=True, durable=False, shared=True, elsewhere=True)
        self._rules = Rules(storage.timeout, storage.lease, storage.min_replicas)
        self._inspected: set[Address] = set()

    def open(self) -> Steps[None]:
        """Asks the first node that answers. Raises what `Valkey.open` says."""
        addresses = self.server.addresses
        for address in addresses[:-1]:
            try:
                yield from self._inspect(address)
            except StoreUnavailableError:
                continue
            return
        yield from self._inspect(addresses[-1])

    def operations(self, namespace: str) -> Steps[Operations]:
        """Finds the namespace's server, asks it too, and makes the namespace when it does not exist."""
        keys = Keys(self.storage.prefix, namespace)
        name = f"{self.server.name} [{namespace}]"
        slot = key_slot(keys.log.encode()) if self.storage.cluster else None
        route = Route(name, self.server.addresses, slot, self.storage.timeout)
        operations = Operations(name, keys, route, self._rules)
        yield from route.locate()
        yield from self._inspect(route.address)
        yield from preparing(name, keys, route)
        return operations

    def _inspect(self, address: Address) -> Steps[None]:
        if address in self._inspected:
            return
        storage = self.storage
        promises = yield from inspect(address, self.server.name, cluster=storage.cluster, durable=storage.durable)
        self._hear(promises)
        self._inspected.add(address)

    def _hear(self, promises: Promises) -> None:
        """The least that one of the servers promises is what the engine does."""
        if self._inspected and not self.capabilities.durable:
            return
        self.capabilities = Capabilities(
            locks=True, durable=promises.durable, shared=True, durability=promises.text, elsewhere=True
        )
        told = (self.server.name, promises.text)
        if self.storage.durable and not promises.durable and told not in warned:
            warned.add(told)
            warnings.warn(f"{self.server.name}: {promises.text}.", RuntimeWarning, stacklevel=2)
