"""The command line as a process: pipes, terminals, signals, and what is left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio
from commands import COMMAND, FEW, POINT, WHEN, Caller, run, until_closed

from rs_embed.store.files import load

TRIANGLE = {"type": "Polygon", "coordinates": [[[11.45, 47.43], [11.451, 47.43], [11.45, 47.431], [11.45, 47.43]]]}
FEATURES = [{"type": "Feature", "id": f"field-{i}", "properties": {"n": i}, "geometry": TRIANGLE} for i in (7, 8)]

INPUTS = {
    "GeoJSON": json.dumps({"type": "FeatureCollection", "features": FEATURES}),
    "a feature a line": "\n".join(map(json.dumps, FEATURES)),
    "a row with a polygon a line": "\n".join(json.dumps({"id": f["id"], "geometry": TRIANGLE}) for f in FEATURES),
    "a row a line": "\n".join(json.dumps({"id": f["id"], "lon": 11.45, "lat": 47.43}) for f in FEATURES),
    "a list of rows": json.dumps([{"id": f["id"], "lon": 11.45, "lat": 47.43} for f in FEATURES]),
    "CSV": "id,lon,lat\nfield-7,11.45,47.43\nfield-8,11.46,47.43\n",
    "CSV with semicolons and a byte-order mark": "\ufeffid;lon;lat\r\nfield-7;11.45;47.43\r\nfield-8;11.46;47.43\r\n",
}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts something on standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("kind", INPUTS)
def test_tables_come_through_standard_input(kind: str, command: Caller, typed: Callable[[bytes], None]) -> None:
    typed(INPUTS[kind].encode())
    said = command.ok("embed", "imagestats", "-", *WHEN)
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["field-7", "field-8"]


def test_regions_from_standard_input_into_a_file(tmp_path: Path) -> None:
    out = tmp_path / "table.parquet"
    done = run("embed", "imagestats", "--regions", "-", *WHEN, "-o", str(out), stdin=INPUTS["GeoJSON"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = load(out)
    assert isinstance(found, list)
    assert [e.meta["labels"] for e in found] == [{"n": 7}, {"n": 8}]


BAD = {
    "nothing": (b"", "empty"),
    "half a document": (b'{"type": "FeatureCollection", "features": [', "JSON"),
    "a picture": (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "standard input"),
    "a number": (b"17", "standard input"),
    "an object of something else": (b'{"type": "Topology"}', "Topology"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_table_is_told_in_one_line(kind: str, command: Caller, typed: Callable[[bytes], None]) -> None:
    content, part = BAD[kind]
    typed(content)
    said = command("embed", "imagestats", "-", *WHEN)
    assert said.code == 1
    assert not said.out
    assert len(said.lines) == 1
    assert part in said.err


def test_one_command_feeds_the_next() -> None:
    first = run("embed", "imagestats", "-", *WHEN, stdin=INPUTS["CSV"])
    places = [json.loads(line)["meta"] for line in first.stdout.splitlines()]
    rows = "\n".join(json.dumps({"id": m["id"], "lon": m["center"][0], "lat": m["center"][1]}) for m in places)
    second = run("embed", "imagestats", "-", *WHEN, stdin=rows)
    assert [json.loads(line)["embedding"] for line in second.stdout.splitlines()] == [
        json.loads(line)["embedding"] for line in first.stdout.splitlines()
    ]


def test_a_warning_is_one_line_on_standard_error() -> None:
    done = run("embed", "imagestats", *POINT, "--backend", "synthetic", env={**os.environ, "PYTHONWARNINGS": ""})
    assert done.returncode == 0
    assert done.stderr.startswith("warning: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--time" in done.stderr
    json.loads(done.stdout)


def many(count: int) -> str:
    """A table of so many points that a run is stopped before its end."""
    return "id,lon,lat\n" + "".join(f"p{i},{11.2 + i * 1e-4:.4f},47.4\n" for i in range(count))


def _hear_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a run over many points, and ends it in any case."""
    running: list[subprocess.Popen[bytes]] = []
    table = tmp_path / "many.csv"
    table.write_text(many(3000))

    def start(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        command = [*COMMAND, "embed", "rcf", "--regions", str(table), *WHEN, *FEW, *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        running.append(subprocess.Popen(command, preexec_fn=_hear_interrupts, **streams))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_reader_that_leaves_ends_the_run_in_silence(started: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = started("--buffer", "20")
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["id"] == "p0"
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 128 + signal.SIGPIPE
    assert said == b""


STOPS = {"Ctrl-C": (signal.SIGINT, 130, b"stopped\n"), "a batch system": (signal.SIGTERM, 143, b"")}


@pytest.mark.parametrize("by", STOPS)
def test_lines_are_whole_when_a_run_is_stopped(by: str, started: Callable[..., subprocess.Popen[bytes]]) -> None:
    number, code, remark = STOPS[by]
    process = started("--buffer", "20")
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    process.send_signal(number)
    rest, said = process.stdout.read(), process.stderr.read()
    assert process.wait() == code
    assert said == remark
    assert all(json.loads(line)["embedding"] for line in (first + rest).splitlines())


@pytest.mark.parametrize("by", STOPS)
def test_files_are_whole_when_a_run_is_stopped(
    by: str, started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    number, code, _ = STOPS[by]
    out = tmp_path / "grids"
    process = started("--buffer", "40", "--grid", "-o", str(out))
    while not (out.is_dir() and any(out.glob("p*.tif"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    files = sorted(out.iterdir())
    assert 0 < len(files) < 3000
    for path in files:
        with rasterio.open(path) as file:
            assert file.read().shape[0] == 4


def test_a_stopped_run_leaves_no_table_and_the_old_one_in_place(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")
    out = tmp_path / "table.parquet"
    out.write_bytes(b"the old one")
    ours, theirs = pty.openpty()
    process = started("--buffer", "20", "-o", str(out), "--overwrite", stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"embedding" not in shown:  # the bar on the terminal: the work has begun
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    until_closed(ours)
    assert process.wait(timeout=60) == 130
    os.close(ours)
    assert out.read_bytes() == b"the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.csv", "table.parquet"]


def test_a_bar_is_drawn_on_terminals_only(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")
    table = tmp_path / "points.csv"
    table.write_text(INPUTS["CSV"])
    ours, theirs = pty.openpty()
    command = [*COMMAND, "embed", "imagestats", "--regions", str(table), *WHEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        shown = until_closed(ours)
    os.close(ours)
    assert process.returncode == 0
    assert [json.loads(line)["id"] for line in lines] == ["field-7", "field-8"]
    assert b"embedding" in shown
    assert run(*command[3:]).stderr == ""


def test_an_error_is_red_on_a_terminal_that_takes_colours() -> None:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        clean = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | environment
        process = subprocess.Popen([*COMMAND, "describe", "galleo"], stderr=theirs, env=clean)
        os.close(theirs)
        shown = os.read(ours, 4096)
        assert process.wait() == 1
        os.close(ours)
        assert shown.startswith(b"\x1b[31merror: " if coloured else b"error: ")
