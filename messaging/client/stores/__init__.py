"""Where a device keeps its records."""

from messaging.client.stores.sealing import derive_key
from messaging.client.stores.sqlite import Store, StoreTransaction

__all__ = ["Store", "StoreTransaction", "derive_key"]
