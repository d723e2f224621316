"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import rs_embed

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LONGEST_FUNCTION = 60
LONGEST_MODULE = 400

PUBLIC = """
    BBox BatchError CheckpointError ChipSet Embedding FetchSpec InputPrepSpec MissingExtraError Model ModelError
    NoImageryError OutputSpec PointBuffer Polygon ProviderError RSEmbedError Regions SensorSpec SpecError
    StoreError TemporalSpec UserData __version__ compare_backends describe_model disable_pretty_warnings
    enable_pretty_warnings estimate fit_basis get_embedding get_embedding_from_data get_embeddings_batch
    get_embeddings_batch_from_data inspect_gee_patch
    inspect_model_input inspect_provider_patch iter_embeddings list_models list_models_for_data load
    read_chips read_regions register reset_runtime save to_geodataframe to_xarray
""".split()  # noqa: SIM905

# In pieces, so that this file does not hold what it looks for.
MACHINE = re.compile(r"(?<![\w.~/-])/(?:" + "|".join(["wo" + "rk/", "opt/" + r"(?:wheels|pypi)", "ro" + "ot/"]) + ")")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def length(function: Function) -> int:
    """Lines of a function, its docstring excluded."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or 0) - docstring.lineno + 1)


def is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(each is None or ast.unparse(each) in {"Exception", "BaseException"} for each in caught)


def committed() -> list[Path]:
    """The files that git tracks, or would track after `git add .`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_the_public_names_are_pinned() -> None:
    assert sorted(rs_embed.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(rs_embed))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_every_public_name_is_documented(name: str) -> None:
    written = (getattr(rs_embed, name).__doc__ or "").strip()
    assert written and not written.startswith(f"{name}("), f"{name} has no docstring of its own"


def test_functions_are_short() -> None:
    long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {length(node)} lines"
        for file in SOURCES
        for node in nodes(file)
        if isinstance(node, Function) and length(node) > LONGEST_FUNCTION
    ]
    assert not long


def test_modules_are_short() -> None:
    sizes = {file.relative_to(ROOT / "src" / "rs_embed"): len(file.read_text().splitlines()) for file in SOURCES}
    assert not {str(file): size for file, size in sizes.items() if size > LONGEST_MODULE and file.parts[0] != "nets"}


def test_no_exception_is_caught_broadly() -> None:
    broad = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in SOURCES
        for node in nodes(file)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert not broad


def test_no_file_names_a_path_of_one_machine() -> None:
    texts = ((file, file.read_bytes().decode("utf-8", errors="ignore")) for file in committed())
    found = {str(file.relative_to(ROOT)): match.group() for file, text in texts if (match := MACHINE.search(text))}
    assert not found


def test_constraints_are_exact_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert not [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)]
