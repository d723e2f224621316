"""Running the command line: as a process, and inside this one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rs_embed.cli import main

COMMAND = [sys.executable, "-m", "rs_embed"]
WHEN = ("--time", "2022-07", "--backend", "synthetic")
POINT = ("--point", "11.457", "47.442", "--buffer", "40")
PLACE = (*POINT, *WHEN)
FEW = ("--option", "features=4")


def run(*arguments: str, stdin: str | bytes = "", **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a process to its end."""
    text = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([*COMMAND, *arguments], input=text, capture_output=True, check=False, **more)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def until_closed(terminal: int) -> bytes:
    """All that is shown on a pseudo-terminal until its other end closes."""
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # how a pseudo-terminal says that its other end has closed
        pass
    return shown


@dataclass
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.strip().splitlines()


class Caller:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str | Path) -> Said:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in arguments])
        said = self.capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    def ok(self, *arguments: str | Path) -> Said:
        """The same, of a command that has to end well and in silence."""
        said = self(*arguments)
        assert said.code == 0, said.err
        assert not said.err
        return said
