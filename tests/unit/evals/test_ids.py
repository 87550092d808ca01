"""The positions of many ids."""

from __future__ import annotations

import sys

import pytest

from gatehouse.evals.ids import Ids


def test_every_id_is_found_where_it_was_added() -> None:
    """20,000 ids, alike and long, have the positions of their order, and no other is there."""
    names = [f"case-{i}" + "x" * (i % 300) for i in range(20_000)]
    names.sort(key=lambda name: name[::-1])
    ids = Ids()
    assert [ids.add(name) for name in names] == list(range(20_000))
    assert len(ids) == 20_000
    assert [ids[name] for name in names] == list(range(20_000))
    assert not any(f"other-{i}" in ids for i in range(20_000))
    with pytest.raises(KeyError, match="other"):
        ids["other"]


def test_ids_with_neighbouring_hashes_do_not_hide_each_other() -> None:
    """Ids whose places in the table collide are told apart."""
    ids = Ids()
    same = [name for name in map(str, range(5_000)) if hash(name) & 15 == 3][:8]
    for position, name in enumerate(same):
        assert name not in ids
        assert ids.add(name) == position
    assert [ids[name] for name in same] == list(range(8))


def test_an_id_takes_few_bytes() -> None:
    """100,000 ids of 60 characters take at most 50 bytes each."""
    ids = Ids()
    for i in range(100_000):
        ids.add(f"{i:060d}")
    held = sum(sys.getsizeof(part) for part in (ids._hashes, ids._table))
    assert held <= 50 * 100_000
