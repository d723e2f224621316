"""Who may import whom: the lines of the architecture, over the syntax tree of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "rs_embed"

# A line imports the lines below it; members of one line do not see each other. The package itself stands on top.
LINES = [
    {"core"},
    {"providers", "preprocess", "nets"},
    {"models"},
    {"inference"},
    {"store"},
    {"export"},
    {"viewer", "evaluation"},
    {"api", "model", "chips", "estimation", "inspection", "plugin", "testing"},
    {"demo"},
    {"cli"},
    {"", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LINES) for name in names}

UPWARD = {("core.registry", "models")}  # the catalogue is walked by name
VERSION = f"{PACKAGE}.__version__"  # a literal, which files and metadata carry
IN_FUNCTIONS = {("models", "nets"), ("models", "torch"), ("api", "inference")}  # (who, whom): never at module level

HOMES = {
    "torch": ("nets", "inference", "models"),
    "rasterio": ("providers.raster", "providers.local", "providers.products.rasters", "store"),
    "ee": ("providers.earth_engine_connection",),
    "pystac_client": ("providers.stac",),
    "zarr": ("providers.products.zarrs",),
    "pyarrow": ("providers.products",),
}
HEAVY = {"odc", "pyproj", "shapely", "xarray"}
LIGHT = ("core", "models")  # but for these two, which `import rs_embed` does not need
GEOGRAPHIC = ("core.imagery", "core.geometry")
NAMELESS = {"util", "utils", "tool", "tools", "common", "helper", "helpers", "misc"}


@dataclass(frozen=True)
class Import:
    target: str  # "rs_embed.core.specs", "torch.nn"
    line: int
    loaded: bool  # at module level, and not for the type checker only


def modules(source: Path) -> Iterator[tuple[str, Path]]:
    """(dotted name below the package, file); the package itself is ""."""
    for file in sorted((source / PACKAGE).rglob("*.py")):
        parts = file.relative_to(source / PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING"


def walk(node: ast.AST, loaded: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether importing the module runs it."""
    yield node, loaded
    inside = loaded and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    skipped = node.body if isinstance(node, ast.If) and is_type_checking(node) else []
    for child in ast.iter_child_nodes(node):
        yield from walk(child, inside and child not in skipped)


def base_of(node: ast.ImportFrom, package: list[str]) -> str:
    """The absolute module that a `from … import` names."""
    if not node.level:
        return node.module or ""
    parents = package[: len(package) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def dynamic_target(node: ast.Call) -> str | None:
    """The literal module name of import_module("…") and __import__("…")."""
    called = ast.unparse(node.func).split(".")[-1]
    if called in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
        return str(node.args[0].value)
    return None


def imports(name: str, file: Path) -> Iterator[Import]:
    """All imports of a module, absolute; `from a import b` counts as a.b, for b may be a module."""
    full = [PACKAGE, *(name.split(".") if name else [])]
    package = full if file.name == "__init__.py" else full[:-1]
    for node, loaded in walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, loaded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = base_of(node, package)
            yield from (Import(f"{base}.{alias.name}", node.lineno, loaded) for alias in node.names)
        elif isinstance(node, ast.Call) and (target := dynamic_target(node)):
            relative = len(target) - len(target.lstrip("."))
            parents = [*package[: len(package) - relative + 1], ""] if relative else []
            yield Import(".".join(parents) + target.lstrip("."), node.lineno, loaded)


def within(name: str, homes: tuple[str, ...]) -> bool:
    return any(name == home or name.startswith(f"{home}.") for home in homes)


def fault_inside(name: str, target: str) -> str | None:
    """What is wrong with importing our own `target` from module `name`."""
    part = name.partition(".")[0]
    other = target.split(".")[1] if "." in target else ""
    other = other if other in LEVEL else ""  # a name that the package itself exports
    allowed = other == part or LEVEL[other] < LEVEL[part] or (name, other) in UPWARD or target == VERSION
    return None if allowed else f"{part or PACKAGE} may not import {other or PACKAGE}"


def fault(name: str, found: Import) -> str | None:
    """What is wrong with an import, or None."""
    part = name.partition(".")[0]
    segments = found.target.split(".")
    root = segments[0]
    ours = root == PACKAGE
    if ours and (said := fault_inside(name, found.target)):
        return said
    whom = segments[1] if ours and len(segments) > 1 else root
    if found.loaded and (part, whom) in IN_FUNCTIONS:
        return f"{part} imports {whom} inside functions only"
    if root in HOMES and not within(name, HOMES[root]):
        return f"{root} has its home in {', '.join(HOMES[root])}"
    if found.loaded and root in HEAVY and within(name, LIGHT) and not within(name, GEOGRAPHIC):
        return f"{root} is too heavy for the module level of {name}"
    return None


def violations(source: Path) -> list[str]:
    """Every breach of the architecture below `source`."""
    found = []
    for name, file in modules(source):
        where = file.relative_to(source)
        if name.partition(".")[0] not in LEVEL:
            found.append(f"{where}: has no line in the architecture")
            continue
        if {segment.strip("_") for segment in name.split(".")} & NAMELESS:
            found.append(f"{where}: if a function has no home, a noun is missing")
        faults = ((each.line, fault(name, each)) for each in imports(name, file))
        found += [f"{where}:{line}: {said}" for line, said in faults if said]
    return found


def test_modules_import_only_what_lies_below_them() -> None:
    assert list(modules(SOURCE)), f"no module found below {SOURCE}"
    assert not violations(SOURCE)


PLANTED = {
    "upward": ("core/specs.py", "import rs_embed.providers.base"),
    "upward from": ("core/specs.py", "from rs_embed.inference import plan"),
    "upward by name": ("store/parquet.py", "from rs_embed import api"),
    "upward, relative": ("inference/plan.py", "from ..store import writers"),
    "upward, relative package": ("inference/plan.py", "from .. import store"),
    "upward in a package": ("providers/products/__init__.py", "from ...models import rcf"),
    "upward in a function": ("preprocess/fill.py", "def f():\n    from rs_embed.models import rcf"),
    "upward for types": (
        "core/specs.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..models import rcf",
    ),
    "upward by string": ("core/specs.py", "import importlib\nimportlib.import_module('rs_embed.models.rcf')"),
    "upward by relative string": ("store/a.py", "from importlib import import_module\nimport_module('..api', 'x')"),
    "the package itself": ("inference/plan.py", "from rs_embed import get_embedding"),
    "sideways": ("providers/base.py", "from rs_embed.preprocess.fill import fill"),
    "sideways on top": ("plugin.py", "from .api import get_embedding"),
    "net at module level": ("models/galileo.py", "from rs_embed.nets.galileo import Galileo"),
    "torch at module level": ("models/galileo.py", "import torch"),
    "torch in a class body": ("models/galileo.py", "class A:\n    import torch.nn"),
    "inference at module level": ("api.py", "from rs_embed.inference.engine import stream"),
    "torch in core": ("core/encoding.py", "def f():\n    import torch"),
    "torch in preprocess": ("preprocess/resize.py", "import torch.nn.functional as F"),
    "rasterio in stac": ("providers/stac.py", "from rasterio.warp import reproject"),
    "rasterio in core": ("core/geometry.py", "import rasterio"),
    "ee elsewhere": ("providers/stac.py", "import ee"),
    "pyarrow elsewhere": ("store/parquet.py", "import pyarrow.parquet"),
    "pystac_client elsewhere": ("providers/local.py", "from pystac_client import Client"),
    "heavy core": ("core/embedding.py", "import xarray as xr"),
    "heavy part of the specs": ("core/regions.py", "from pyproj import CRS"),
    "heavy model": ("models/rcf.py", "from odc.geo.geobox import GeoBox"),
    "heavy model, conditional": ("models/rcf.py", "try:\n    import shapely\nexcept ImportError:\n    pass"),
    "no line": ("extras/thing.py", "x = 1"),
    "no noun": ("core/utils.py", "x = 1"),
    "no noun, private": ("providers/_helpers/raster.py", "x = 1"),
}

FINE = {
    "downward": ("inference/plan.py", "from ..core.specs import BBox\nfrom rs_embed.providers import base"),
    "own package": ("providers/stac.py", "from . import base\nfrom .raster import read\nimport pystac_client"),
    "lazy names": ("__init__.py", "def __getattr__(name):\n    from . import api\n    from .core import specs"),
    "the version": ("store/parquet.py", "from rs_embed import __version__"),
    "registry": ("core/registry.py", "import importlib\ndef f():\n    importlib.import_module('rs_embed.models')"),
    "net in a function": ("models/a.py", "def f():\n    from ..nets.a import A"),
    "inference in a function": ("api.py", "def f():\n    from .inference.engine import stream"),
    "heavy in a function": ("core/embedding.py", "def f():\n    import xarray"),
    "heavy for types": (
        "core/specs.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from odc.geo.geobox import GeoBox",
    ),
    "heavy geometry": ("core/geometry.py", "import shapely\nfrom odc.geo.geobox import GeoBox"),
    "homes": ("nets/a.py", "import torch.nn.functional as F"),
    "rasterio at home": ("store/geotiff.py", "import rasterio"),
}


def plant(source: Path, path: str, text: str) -> Path:
    file = source / PACKAGE / path
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    return source


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_is_found(case: str, tmp_path: Path) -> None:
    found = violations(plant(tmp_path, *PLANTED[case]))
    assert len(found) == 1
    assert PLANTED[case][0] in found[0]


@pytest.mark.parametrize("case", FINE)
def test_what_the_architecture_allows_passes(case: str, tmp_path: Path) -> None:
    assert not violations(plant(tmp_path, *FINE[case]))
