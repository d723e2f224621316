"""A file behind a URL in parts: whatever parts are here, what is read is what the file holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from range_server import RangeServer

from rs_embed.providers.products.files import RemoteFile
from rs_embed.providers.ranged import RangedFile
from rs_embed.providers.ranges import Bytes

CONTENT = np.random.default_rng(0).bytes(300_000)
SPAN = st.tuples(st.integers(0, 299_999), st.integers(1, 120_000))


class Held(RangedFile):
    """A file of which some parts are here, in any order, one over the other."""

    def __init__(self, parts: Iterable[tuple[int, int]], head: int) -> None:
        super().__init__("http://localhost/file.tif")
        self.head = self.ask(0, head)
        self.parts = [self.ask(start, start + length) for start, length in parts]
        self.asked = 0

    def ask(self, start: int, stop: int) -> Bytes:
        self.asked = getattr(self, "asked", 0) + 1
        return Bytes(start, CONTENT[start:stop], len(CONTENT), "tag")

    def held(self) -> Iterable[Bytes]:
        return self.parts


@given(parts=st.lists(SPAN, max_size=6), head=st.integers(1, 70_000), read=st.lists(SPAN, max_size=4))
def test_parts_give_the_files_own_bytes(parts: list[tuple[int, int]], head: int, read: list[tuple[int, int]]) -> None:
    file = Held(parts, head)
    for start, length in read:
        assert file.read(start, start + length) == CONTENT[start : start + length]
    stream = file.open()
    for start, length in read:
        stream.seek(start)
        assert stream.read(length) == CONTENT[start : start + length]
    known = np.zeros(len(CONTENT), bool)
    for start, length in [(0, head), *parts]:
        known[start : start + length] = True
    before = file.asked
    for start, length in read:
        if known[start : start + length].all():
            file.read(start, start + length)
    assert file.asked == before, "what is here is not fetched"


@pytest.mark.parametrize("starts", [[0, 5_000_000], [100, 4_194_400, 9_000_000]])
def test_long_ranges_that_come_in_parts_are_fetched_once(tmp_path: Path, starts: list[int]) -> None:
    content = np.random.default_rng(1).bytes(12_000_000)
    (tmp_path / "long.bin").write_bytes(content)
    with RangeServer(tmp_path) as server:
        file = RemoteFile(server.url("long.bin"))
        wanted = [(start, start + 3_000_000) for start in starts]
        file.expect(wanted)
        asked = len(server.requests)
        assert all(file.read(*each) == content[slice(*each)] for each in wanted)
        assert len(server.requests) == asked
        file.expect(wanted)
        assert len(server.requests) == asked
