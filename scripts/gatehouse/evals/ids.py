"""Where each of many ids is, in a few bytes an id however long they are: a golden set may have 100,000."""

from __future__ import annotations

from array import array

FREE = -1


class Ids:
    """The position of each id, counted from 0 in the order they were added.

    Not the ids but their 64-bit hashes are held, in an open hash table (linear probing, half full at most).
    Among 100,000 ids two different ones count as one with a chance of 1 in 4 thousand millions, and nobody
    can make that happen: the hash of a text has a random key.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._table = array("l", [FREE]) * 16

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, name: object) -> bool:
        return self._table[self._slot(hash(name))] != FREE

    def __getitem__(self, name: str) -> int:
        """The position; raises KeyError."""
        position = self._table[self._slot(hash(name))]
        if position == FREE:
            raise KeyError(name)
        return position

    def add(self, name: str) -> int:
        """The position of an id that is not there yet."""
        position, hashed = len(self._hashes), hash(name)
        self._hashes.append(hashed)
        if 2 * position >= len(self._table):
            self._table = array("l", [FREE]) * (4 * len(self._table))
            for earlier in range(position):
                self._table[self._slot(self._hashes[earlier])] = earlier
        self._table[self._slot(hashed)] = position
        return position

    def _slot(self, hashed: int) -> int:
        """Where in the table this hash is, or would be."""
        table, hashes, last = self._table, self._hashes, len(self._table) - 1
        slot = hashed & last
        while table[slot] != FREE and hashes[table[slot]] != hashed:
            slot = (slot + 1) & last
        return slot
