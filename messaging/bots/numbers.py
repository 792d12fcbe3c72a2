"""Numbers for what has long names: people, messages, files and updates. Each is kept both ways, in the transaction given.

A number is never given twice, and a series that is bounded forgets its oldest ones. Reads and writes no disk itself.
"""

from dataclasses import dataclass

from messaging.client.stores import StoreTransaction

_KIND = "number"
_LAST, _BY_NUMBER, _BY_NAME = "last", "#", "="


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers from ``first`` on, of one kind; ``path`` says of what. At most ``kept`` are remembered, if that is said."""

    path: tuple[str, ...]
    first: int = 1
    kept: int | None = None

    def number(self, transaction: StoreTransaction, name: str) -> int:
        """The number of ``name``: the one that it has, or the next."""
        found = self.find(transaction, name)
        return self._next(transaction, name) if found is None else found

    def renew(self, transaction: StoreTransaction, name: str, *, above: int = 0) -> int:
        """Another number for ``name``, greater than all before and at least ``above``."""
        self.forget(transaction, name)
        return self._next(transaction, name, above)

    def last(self, transaction: StoreTransaction) -> int:
        """The greatest number that was given; one less than ``first`` if none was."""
        last = transaction.get(_KIND, *self.path, _LAST)
        return self.first - 1 if last is None else int(last)

    def find(self, transaction: StoreTransaction, name: str) -> int | None:
        """The number of ``name``, if it has one."""
        record = transaction.get(_KIND, *self.path, _BY_NAME, name)
        return None if record is None else int(record)

    def name(self, transaction: StoreTransaction, number: int) -> str | None:
        """What has this number."""
        record = transaction.get(_KIND, *self.path, _BY_NUMBER, str(number))
        return None if record is None else record.decode()

    def forget(self, transaction: StoreTransaction, name: str) -> None:
        """Let ``name`` have no number any more."""
        number = self.find(transaction, name)
        if number is not None:
            transaction.delete(_KIND, *self.path, _BY_NAME, name)
            transaction.delete(_KIND, *self.path, _BY_NUMBER, str(number))

    def _next(self, transaction: StoreTransaction, name: str, above: int = 0) -> int:
        last = self.last(transaction)
        number = max(last + 1, above)
        transaction.put(_KIND, *self.path, _LAST, record=str(number).encode())
        transaction.put(_KIND, *self.path, _BY_NAME, name, record=str(number).encode())
        transaction.put(_KIND, *self.path, _BY_NUMBER, str(number), record=name.encode())
        if self.kept is not None:
            for old in range(max(self.first, last - self.kept + 1), min(last, number - self.kept) + 1):
                self._forget_number(transaction, old)
        return number

    def _forget_number(self, transaction: StoreTransaction, number: int) -> None:
        name = self.name(transaction, number)
        if name is not None:
            transaction.delete(_KIND, *self.path, _BY_NUMBER, str(number))
            transaction.delete(_KIND, *self.path, _BY_NAME, name)
