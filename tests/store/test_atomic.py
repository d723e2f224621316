"""A file is there whole or not at all, whatever happens to its writer."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from rs_embed import Embedding, StoreError, load, save
from rs_embed.store.atomic import atomic

SUFFIXES = (".npy", ".npz", ".parquet", ".tif", ".nc")

WRITER = """
    import sys
    import numpy as np
    from rs_embed import Embedding, save

    path, shape, first = sys.argv[1], tuple(int(n) for n in sys.argv[2].split(",")), int(sys.argv[3])
    meta = {"model": "m", "note": "x" * 1000}
    while True:
        for value in (first, first + 1):
            save(Embedding(np.full(shape, value, np.float32), meta | {"value": value}), path, overwrite=True)
            print(value, flush=True)
"""


def start(path: Path, first: int) -> subprocess.Popen[bytes]:
    shape = "20,150,200" if path.suffix in (".tif", ".npz", ".nc") else "200000"
    code = textwrap.dedent(WRITER)
    return subprocess.Popen([sys.executable, "-c", code, str(path), shape, str(first)], stdout=subprocess.PIPE)


def whole(path: Path) -> int:
    """The number that fills the file, asserted to be the only one and the one that its metadata say."""
    found = load(path)
    assert isinstance(found, Embedding)
    value = int(found.meta["value"])
    assert found.values().size in (600_000, 200_000) and (found.values() == value).all()
    return value


def kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_killed_writer_leaves_a_whole_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    process = start(path, 1)
    assert process.stdout is not None
    process.stdout.readline()
    seen = set()
    for _ in range(5):
        seen.add(whole(path))
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)  # wherever it is just now
    halves = [p for p in tmp_path.iterdir() if p != path]
    kill(process)
    assert whole(path) in (1, 2) and seen <= {1, 2}
    assert all(p.name.startswith(".") for p in halves)  # no half file under a name that somebody would open
    assert sorted(p for p in tmp_path.iterdir() if not p.name.startswith(".")) == [path]


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".tif"])
def test_two_writers_at_once_never_mix(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    writers = [start(path, first) for first in (1, 3)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    seen = {whole(path) for _ in range(25)}
    for writer in writers:
        kill(writer)
    assert seen <= {1, 2, 3, 4} and whole(path) in (1, 2, 3, 4)


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    file.write_text("old")

    def stopped() -> None:
        with atomic(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


FULL = """
    import resource, signal, sys
    import numpy as np
    from rs_embed import Embedding, StoreError, save

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    shape = (3, 400, 400) if sys.argv[1].endswith(".tif") else (400_000,)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        save(Embedding(values, {"model": "m"}), sys.argv[1], overwrite=True)
    except StoreError as error:
        print("told:", error)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_told_and_the_old_file_stays(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    shape = (1, 2, 2) if suffix == ".tif" else (2,)
    save(Embedding(np.ones(shape, np.float32), {"model": "m"}), path)
    before = path.read_bytes()
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ran.stdout.startswith("told:"), ran.stdout + ran.stderr
    assert path.name in ran.stdout
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_limits_of_the_other_tests_are_their_own() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert issubclass(StoreError, Exception)
