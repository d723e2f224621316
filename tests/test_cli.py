"""The command line's catalogue, help, completion, and what it says of mistakes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commands import FEW, PLACE, POINT, WHEN, Caller, run

import rs_embed
from rs_embed.cli.options import given

COMMANDS = ("models", "describe", "embed", "estimate", "inspect", "verify", "doctor", "pull", "cache", "demo")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


def test_help_version_and_the_module(command: Caller) -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert all(f"  {name} " in shown.stdout for name in COMMANDS)
    assert command("--version").out.strip() == rs_embed.__version__
    for name in COMMANDS:
        assert "Usage: rs-embed" in command.ok(name, "--help").out
    asked = command.ok("embed", "-h").out
    assert all(unit in asked for unit in ("degrees", "metres", "percent", "Examples:"))


def test_help_needs_neither_numpy_nor_rich() -> None:
    code = (
        "import sys\nfrom rs_embed.cli import main\ntry:\n main(['embed', '--help'])\nexcept SystemExit:\n pass\n"
        "print(sorted({'numpy', 'rich', 'torch', 'xarray', 'rasterio'} & set(sys.modules)), file=sys.stderr)"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_models_as_a_table_and_as_json(command: Caller) -> None:
    assert sorted(json.loads(command.ok("models", "--json").out)) == rs_embed.list_models()
    listed = command.ok("models").out
    assert [line.split()[0] for line in listed.splitlines()[1:]] == rs_embed.list_models()
    rows = {line.split()[0]: line for line in command.ok("models", "--aliases").out.splitlines()}
    assert "= rcf" in rows["mosaiks"]
    assert set(rs_embed.list_models(include_aliases=True)) <= set(rows)


def test_describe_prints_json_into_a_pipe_and_the_citation_alone(command: Caller) -> None:
    assert json.loads(command.ok("describe", "mosaiks").out) == rs_embed.describe_model("rcf")
    assert json.loads(command.ok("describe", "rcf", "--json").out) == rs_embed.describe_model("rcf")
    assert command.ok("describe", "rcf", "--cite").out.startswith("@article{")


@pytest.mark.parametrize("name", rs_embed.list_models())
def test_every_model_is_described_in_tables(name: str, command: Caller) -> None:
    from rs_embed.cli.catalogue import _print_facts

    facts = rs_embed.describe_model(name)
    command.capsys.readouterr()
    _print_facts(facts)
    shown = command.capsys.readouterr().out
    words = [facts["title"], *facts["inputs"], *facts["variants"], *facts["model_config"], f"describe {name} --cite"]
    assert all(word in shown for word in words)


def test_describe_is_tables_on_a_terminal() -> None:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")
    import subprocess

    from commands import COMMAND, until_closed

    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, "describe", "rcf"], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = until_closed(ours)
    os.close(ours)
    assert process.returncode == 0
    assert b"pooled vector" in shown
    assert b'"model"' not in shown


COMPLETIONS = {
    "a model": ("rs-embed embed gali", {"galileo"}),
    "another name": ("rs-embed describe mosa", {"mosaiks"}),
    "a variant": ("rs-embed pull galileo --variant n", {"nano"}),
    "an option of the model": ("rs-embed embed rcf --option feat", {"features="}),
    "a value of it": ("rs-embed embed galileo --option variant=t", {"variant=tiny"}),
    "a modality": ("rs-embed embed galileo --modality s2", {"s2", "s2+s1"}),
    "a backend": ("rs-embed inspect --backend sy", {"synthetic"}),
}


@pytest.mark.parametrize("case", COMPLETIONS)
def test_completion_knows(case: str) -> None:
    typed, wanted = COMPLETIONS[case]
    words = typed.split()
    asked = {"_RS_EMBED_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = run(env={**os.environ, **asked})
    assert set(done.stdout.split()) == wanted, done.stderr


def test_completion_of_nonsense_is_empty_and_quiet() -> None:
    asked = {"_RS_EMBED_COMPLETE": "complete_bash", "COMP_WORDS": "rs-embed pull nothing --variant ", "COMP_CWORD": "4"}
    done = run(env={**os.environ, **asked})
    assert not done.stdout.strip()
    assert not done.stderr


ERRORS = {
    "an unknown model": (("embed", "rfc", *PLACE), "did you mean 'rcf'"),
    "an unknown model to describe": (("describe", "galleo"), "did you mean 'galileo'"),
    "an unknown model to pull": (("pull", "galleo"), "did you mean 'galileo'"),
    "an unknown option": (("embed", "rcf", *PLACE, "--option", "feature=8"), "'features'"),
    "an unknown variant": (("embed", "galileo", *PLACE, "--variant", "large"), "'nano'"),
    "an unknown variant to pull": (("pull", "galileo", "--variant", "large"), "nano, tiny, base"),
    "a latitude of 95": (("embed", "rcf", "--point", "1", "95", *WHEN), "95"),
    "a reversed box": (("embed", "rcf", "--bbox", "1", "9", "2", "8", *WHEN), "reversed"),
    "no such time": (("embed", "rcf", *POINT, "--time", "June"), "2022-06"),
    "years backwards": (("embed", "rcf", *POINT, "--years", "2024-2018", "--backend", "synthetic"), "2018"),
    "a cloud cover of 200": (("embed", "rcf", *PLACE, "--cloudy", "200"), "100 percent"),
    "a composite of its own": (("embed", "rcf", *PLACE, "--composite", "best"), "'mosaic'"),
    "an unknown pooling": (("embed", "rcf", *PLACE, "--pooling", "avg"), "'mean'"),
    "an unknown mode": (("embed", "rcf", *PLACE, "--input-prep", "crop"), "'tile'"),
    "an unknown precision": (("embed", "rcf", *PLACE, "--precision", "int8"), "'float32'"),
    "an unknown device": (("embed", "rcf", *PLACE, "--device", "tpu"), "'cuda'"),
    "an unknown backend": (("embed", "rcf", *POINT, "--time", "2022", "--backend", "synthetik"), "'synthetic'"),
    "no login": (("embed", "rcf", *POINT, "--time", "2022", "--backend", "gee"), "earthengine authenticate"),
    "an unknown collection": (("embed", "rcf", *PLACE, "--collection", "sentinel-9"), "did you mean"),
    "an unknown band": (("embed", "rcf", *PLACE, "--collection", "s2", "--bands", "B99"), "B99"),
    "an unknown suffix": (("embed", "rcf", *PLACE, "-o", "x.xyz"), ".parquet"),
    "a folder that is not there": (("embed", "rcf", *PLACE, "-o", "no/such/x.npy"), "does not exist"),
    "a table that is not there": (("embed", "rcf", "--regions", "no.csv", *WHEN), "no.csv"),
    "a raster that is not there": (("embed", "rcf", "no.tif", "--collection", "s2"), "no.tif does not exist"),
    "more components than dimensions": (("embed", "rcf", *PLACE, *FEW, "--grid", "--pca", "9"), "4 dimensions"),
    "no such folder of golden files": (("verify", "--golden", "no/such"), "no/such"),
    "no such sensor": (("inspect", *PLACE, "--collection", "sentinel-9"), "did you mean"),
    "no picture": (("inspect", *PLACE, "-o", "x.jpg"), ".png"),
    "a picture nowhere": (("inspect", *PLACE, "-o", "no/such/x.png"), "does not exist"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_with_the_remedy(
    name: str, command: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, part = ERRORS[name]
    said = command(*arguments)
    assert said.code == 1
    assert not said.out
    assert len(said.lines) == 1
    assert said.err.startswith("error: ")
    assert part in said.err
    assert not list(tmp_path.iterdir())


USAGE = {
    "no such command": (("embd",), "'embed'"),
    "no such flag": (("embed", "rcf", "--pint", "3"), "--point"),
    "no model": (("embed",), "MODEL"),
    "half a point": (("embed", "rcf", "--point", "3"), "requires 2 arguments; see rs-embed embed"),
    "a point of words": (("embed", "rcf", "--point", "a", "b"), "--point"),
    "two places": (("embed", "rcf", *PLACE, "--bbox", "1", "2", "3", "4"), "--point and --bbox"),
    "no place": (("embed", "rcf", "--backend", "synthetic"), "--regions"),
    "two times": (("embed", "rcf", *PLACE, "--years", "2018-2020"), "--time and --years"),
    "years of words": (("embed", "rcf", *POINT, "--years", "always"), "2018-2024"),
    "a buffer of a box": (("embed", "rcf", "--bbox", "1", "2", "3", "4", "--buffer", "9"), "--buffer"),
    "a column of no table": (("embed", "rcf", *PLACE, "--id", "name"), "--regions FILE"),
    "an option without a value": (("embed", "rcf", *PLACE, "--option", "features"), "NAME=VALUE"),
    "an option twice": (("embed", "galileo", *PLACE, "--variant", "nano", "--option", "variant=tiny"), "twice"),
    "bands of nothing": (("embed", "rcf", *PLACE, "--bands", "B4"), "--collection"),
    "bands with a hole": (("embed", "rcf", *PLACE, "--collection", "s2", "--bands", "B4,,B2"), "B4,B3,B2"),
    "units of a backend": (("embed", "rcf", *PLACE, "--units", "dn"), "files of your own"),
    "no way of failing": (("embed", "rcf", *PLACE, "--on-error", "skip"), "raise, return"),
    "grid and pooling": (("embed", "rcf", *PLACE, "--grid", "--pooling", "max"), "--grid and --pooling"),
    "components of a vector": (("embed", "rcf", *PLACE, "--pca", "3"), "--grid"),
    "no component": (("embed", "rcf", *PLACE, "--grid", "--pca", "0"), "--pca"),
    "a raster of a vector": (("embed", "rcf", *PLACE, "-o", "x.tif"), "--grid"),
    "a table of a grid": (("embed", "rcf", *PLACE, "--grid", "-o", "x.parquet"), "--grid"),
    "a folder of vectors": (("embed", "rcf", *PLACE, "-o", "folder"), "--grid"),
    "files and a place": (("embed", "rcf", "a.tif", *POINT, "--collection", "s2"), "--point"),
    "files and a backend": (("embed", "rcf", "a.tif", "--collection", "s2", "--backend", "auto"), "--backend"),
    "files of what?": (("embed", "rcf", "a.tif"), "--collection"),
    "a table as a file": (("embed", "rcf", "points.csv", *WHEN), "--regions points.csv"),
    "standard input and more": (("embed", "rcf", "-", "a.tif", "--collection", "s2"), "stands alone"),
    "standard input twice": (("embed", "rcf", "-", "--regions", "-"), "--regions and -"),
    "cite and json": (("describe", "rcf", "--cite", "--json"), "--cite and --json"),
    "nowhere to look": (("inspect", "--time", "2022"), "--point LON LAT and --bbox"),
    "a model and a collection": (("inspect", *PLACE, "--model", "rcf", "--collection", "s2"), "--collection"),
    "a model's option alone": (("inspect", *PLACE, "--option", "a=1"), "--model"),
    "nothing to pull": (("pull",), "MODEL"),
    "one variant of two models": (("pull", "galileo", "rcf", "--variant", "nano"), "one MODEL"),
    "a point with a comma": (
        ("embed", "rcf", "--point", "11.1,48.7", "--json"),
        "'11.1,48.7 --json'; it is written --point LON",
    ),
    "one variant and all": (("pull", "galileo", "--variant", "nano", "--all"), "--all"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_told_in_one_line(
    name: str, command: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, part = USAGE[name]
    said = command(*arguments)
    assert said.code == 2
    assert not said.out
    assert len(said.lines) == 1
    assert part in said.err
    assert "--help" in said.err
    assert not list(tmp_path.iterdir())


def test_nothing_at_all_shows_the_help(command: Caller) -> None:
    said = command()
    assert said.code == 2
    assert "Commands:" in said.err + said.out


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    for arguments in (("--debug", "embed", "rfc", *PLACE), ("embed", "rfc", "--debug", *PLACE)):
        done = run(*arguments)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ModelError: Unknown model 'rfc'" in done.stderr


def test_what_nobody_foresaw_is_one_line_too() -> None:
    code = (
        "from rs_embed.cli import app, main\n"
        "@app.command('break')\ndef command() -> None:\n    {}['key']\n"
        "main(['break'{}])"
    )
    import subprocess
    import sys

    for debug in (False, True):
        text = code.replace("'break'{}", "'break', '--debug'" if debug else "'break'")
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) == debug
        assert "KeyError" in done.stderr
        assert debug or len(done.stderr.strip().splitlines()) == 1


def test_flags_are_named_as_they_are_typed() -> None:
    assert given(time_col="when", id=None, option=[], grid=False, point=(0.0, 0.0)) == ["--time-col", "--point"]
