"""The certificate itself: right nets pass, planted mistakes fail, and nothing fails in silence."""

from __future__ import annotations

import fnmatch
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rs_embed.core.errors import SpecError
from rs_embed.core.registry import get_spec, list_models
from rs_embed.inference.golden import GoldenFile, element_error, golden_array, golden_weight, relative_error
from rs_embed.inference.verify import Row, records, verify

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {path.stem: GoldenFile.open(path) for path in sorted(GOLDEN.glob("*.json"))}
KNOWN = [name for name in list_models(include_aliases=True) if name in FILES]


def has_real_weights(name: str) -> bool:
    return any("weights" in case for case in FILES[name].described["cases"].values())


@pytest.mark.parametrize("name", KNOWN)
def test_the_catalogues_models_are_what_the_authors_computed(name: str, request: pytest.FixtureRequest) -> None:
    if has_real_weights(name):
        request.getfixturevalue("shared")  # skips with a loud notice where the reference data are absent
    rows = verify([name])
    assert not [row for row in rows if not row.ok]
    certificate = get_spec(name).certificate
    assert certificate is not None
    ours = fnmatch.filter(FILES[name].described["cases"], certificate().cases)
    cases = {case: FILES[name].described["cases"][case] for case in ours}
    assert cases and {(row.case, row.output) for row in rows} >= {
        (c, o) for c, case in cases.items() for o in case["outputs"]
    }
    published = FILES[name].described.get("published", {}) if certificate().cases == "*" else ()
    assert all(f"published/{v}" in {row.case for row in rows} for v in published)


@pytest.mark.parametrize("name", KNOWN)
def test_every_published_variant_is_declared(name: str) -> None:
    published, spec = FILES[name].described.get("published", {}), get_spec(name)
    if not published or spec.product is not None:  # the file is of the net, the catalogue has what it made
        return
    # dofa keeps the names that users of variant="base" know: version 1 goes without saying
    known = {re.sub("^v1_vit_|vit_", "", each) for each in published} if name == "dofa" else set(published)
    assert known == set(spec.variants)
    for variant in spec.variants.values():
        assert variant.checkpoint is not None and variant.parameters


def copy(tmp_path: Path, name: str, *, cases: str = "") -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A golden file of some cases, to be changed: (folder, description, arrays)."""
    file = FILES[name]
    described = json.loads(json.dumps(file.described))
    if cases:
        described["cases"] = {case: value for case, value in described["cases"].items() if case in cases.split()}
    return tmp_path, described, {key: value.copy() for key, value in file.arrays.items()}


def write(folder: Path, described: dict[str, Any], arrays: dict[str, Any]) -> Path:
    (folder / "given.json").write_text(json.dumps(described))
    np.savez(folder / "given.npz", **arrays)
    return folder


def failed(rows: list[Row]) -> set[tuple[str, str]]:
    return {(row.case, row.output) for row in rows if not row.ok}


def test_other_numbers_fail(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "remoteclip", cases="vit_gelu rn50")
    arrays["vit_gelu/out/pooled"][0, 0] += 1e-3 * np.abs(arrays["vit_gelu/out/pooled"]).max()
    arrays["norm/image"][0, 3, 4] += 1e-3
    rows = verify(golden=write(folder, described, arrays))
    assert failed(rows) == {("vit_gelu", "pooled"), ("normalization", "image")}
    assert 1e-4 < next(row.error for row in rows if row.output == "pooled") < 1e-2


def test_another_seed_fails_everywhere(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "galileo", cases="s2_p4")
    rows = verify(golden=write(folder, described | {"seed": 1}, arrays), case="s2_p4")
    assert len(failed(rows)) == len(rows) == 3


def test_a_net_of_another_architecture_fails(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "remoteclip", cases="vit_gelu")
    described["cases"]["vit_gelu"]["config"]["quick_gelu"] = True
    rows = verify(golden=write(folder, described, arrays), case="vit_gelu")
    assert len(failed(rows)) == len(rows) == 4


CHANGES: dict[str, Any] = {
    "a parameter too few": lambda case: case["state_dict"].pop("norm.bias"),
    "a parameter too many": lambda case: case["state_dict"].update({"norm.more": [32]}),
    "another shape": lambda case: case["state_dict"].update({"norm.bias": [33]}),
    "another depth": lambda case: case["config"].update(depth=3),
    "an unknown rule": lambda case: case["inputs"]["s_t_x"].update(kind="poisson"),
    "an input too few": lambda case: case["inputs"].pop("months"),
    "an unknown output": lambda case: case["outputs"].update(attention="[1]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_case_that_cannot_be_run_fails_alone_and_says_why(tmp_path: Path, change: str) -> None:
    folder, described, arrays = copy(tmp_path, "galileo", cases="s2_p4 s2_p8")
    CHANGES[change](described["cases"]["s2_p4"])
    rows = verify(golden=write(folder, described, arrays), case="s2_*")
    assert {row.case for row in rows if not row.ok} == {"s2_p4"}
    assert all(row.ok for row in rows if row.case == "s2_p8")
    assert all(row.note for row in rows if not row.ok)


@pytest.mark.parametrize("name", ["remoteclip", "galileo"])
def test_another_published_parameter_fails(tmp_path: Path, name: str) -> None:
    folder, described, arrays = copy(tmp_path, name, cases="none")
    variant = next(iter(described["published"]))
    parameter = next(iter(described["published"][variant]["parameters"]))
    described["published"][variant]["parameters"][parameter][0] += 1
    rows = verify(golden=write(folder, described, arrays), case="published/*")
    assert failed(rows) == {(f"published/{variant}", "parameters")}
    assert parameter.split(".")[-1] in next(row.note for row in rows if not row.ok)


def test_missing_real_weights_fail_and_say_so(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "galileo", cases="real_weights")
    described["cases"]["real_weights"]["weights"] = "weights/nowhere/encoder.pt"
    rows = verify(golden=write(folder, described, arrays), case="real_weights")
    assert len(rows) == 3 and not any(row.ok for row in rows)
    assert "weights/nowhere/encoder.pt" in rows[0].note


def test_a_nan_has_to_be_where_it_is_wanted(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "galileo", cases="s2_p8")
    arrays["s2_p8/out/grid"][0, 0, 0, 0] = np.nan
    assert failed(verify(golden=write(folder, described, arrays), case="s2_p8")) == {("s2_p8", "grid")}


@pytest.mark.parametrize("stated", [1e-9, {"pooled": 1e-9}])
def test_the_files_own_tolerance_counts(tmp_path: Path, stated: Any) -> None:
    folder, described, arrays = copy(tmp_path, "galileo", cases="s2_p8")
    described["cases"]["s2_p8"]["tolerance"] = stated
    rows = verify(golden=write(folder, described, arrays), case="s2_p8")
    assert {row.output: row.tolerance for row in rows if not row.ok}["pooled"] == 1e-9
    assert ("s2_p8", "grid") in failed(rows) or isinstance(stated, dict)


def test_double_precision_is_run_in_double_precision(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "remoteclip", cases="vit_patch14")
    described["cases"]["vit_patch14"]["dtype"] = "float64"
    assert not failed(verify(golden=write(folder, described, arrays), case="vit_patch14"))


def test_fixed_values_come_before_the_rule(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "galileo", cases="eps")
    arrays["eps/fixed/st_channel_embed"] *= 2
    assert failed(verify(golden=write(folder, described, arrays), case="eps"))


def test_stored_rows_and_columns_are_compared(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "remoteclip", cases="none")
    described["normalization"]["parameters"]["image"]["stored"] = [[1, 4], [0, 3]]
    arrays["norm/image"] = arrays["norm/image"][:, 1::4, ::3]
    assert not failed(verify(golden=write(folder, described, arrays), case="normalization"))


def test_aliases_and_case_mean_the_model(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "remoteclip", cases="vit_gelu")
    write(folder, described | {"model": "remoteclip_s2rgb"}, arrays)
    for asked in ("remoteclip", " RemoteCLIP_S2RGB "):
        assert not failed(verify([asked], "vit_gelu", folder))


def test_a_model_asked_for_has_to_have_a_file(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "remoteclip", cases="vit_gelu")
    write(folder, described, arrays)
    rows = verify(["remoteclip", "galileo", "nosuch"], "vit_gelu", folder)
    assert [row.model for row in rows if not row.ok] == ["galileo", "nosuch"]


def test_what_the_catalogue_lacks_is_noted_and_fails_where_it_was_asked_for(tmp_path: Path) -> None:
    folder, described, arrays = copy(tmp_path, "remoteclip", cases="vit_gelu")
    write(folder, described, arrays)
    (folder / "future.json").write_text(json.dumps({"model": "future", "seed": 0, "cases": {}}))
    rows = verify(case="vit_gelu", golden=folder)
    assert [(row.model, row.note) for row in rows if row.notice] == [("future", "not in the catalogue")]
    assert all(row.ok for row in rows)
    assert "future" not in {each["model"] for each in records(rows)}
    assert [row.ok for row in verify(["future"], None, folder)] == [False]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_file_fails(tmp_path: Path, text: str) -> None:
    (tmp_path / "galileo.json").write_text(text)
    rows = verify(golden=tmp_path)
    assert [row.ok for row in rows] == [False] and "galileo.json" in rows[0].note


def test_a_file_without_its_arrays_fails(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "galileo.json", tmp_path)
    rows = verify(["galileo"], "s2_p4", tmp_path)
    assert rows and not any(row.ok for row in rows)


def test_nothing_verified_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nothing to verify"):
        verify(golden=tmp_path)
    with pytest.raises(SpecError, match="matches case='nosuch'"):
        verify(["galileo"], "nosuch")
    with pytest.raises(SpecError, match="--golden DIR"):
        verify(golden=tmp_path / "nowhere")


def test_records_are_json_for_everybody() -> None:
    rows = [Row("a", "b", "c", math.inf, 2e-5, False, "why"), Row("a", "b", "d", 1e-7, 2e-5, True)]
    found = json.loads(json.dumps(records(rows), allow_nan=False))
    assert [set(each) for each in found] == [{"model", "case", "output", "error", "tolerance", "ok"}] * 2
    assert found[0]["error"] > 1e300 and found[1]["error"] == 1e-7


@pytest.mark.parametrize(
    ("got", "wanted", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1e-9, 0.0], [0.0, 0.0], math.inf),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.nan], [1.0, 2.0], math.inf),
        ([1.0, np.inf], [1.0, np.inf], 0.0),
        ([1.0], [1.0, 1.0], math.inf),
        ([np.nan], [np.nan], 0.0),
    ],
)
def test_relative_error(got: list[float], wanted: list[float], error: float) -> None:
    assert relative_error(np.array(got), np.array(wanted)) == pytest.approx(error)


def test_element_error_is_the_readme_s_rule() -> None:
    wanted = np.array([0.0, 1.0, -500.0])
    edge = wanted + 1e-5 + 1e-5 * np.abs(wanted)
    assert element_error(edge, wanted) == pytest.approx(1e-5)
    assert element_error(edge + 1e-4, wanted) > 1e-5
    assert element_error(np.array([np.nan]), np.array([0.0])) == math.inf


def test_edits_are_for_the_outputs_that_they_name() -> None:
    file = FILES["galileo"]
    assert not file.normalization_inputs("ndvi_from_s2")["s2"][0, 0, 0].any()
    assert file.normalization_inputs("space_time_x")["s2"][0, 0, 0].all()
    assert np.isnan(FILES["copernicus-fm"].normalization_inputs("s2_toa")["s2_toa"][0, :, 0, 0]).all()


def test_the_rule_gives_the_bits_that_the_files_hold() -> None:
    arrays = FILES["galileo"].arrays
    weight = golden_weight("static_embed.LS.weight", (32, 1), seed=FILES["galileo"].described["seed"])
    assert np.array_equal(np.float32(weight * np.float32(0.001)), arrays["eps/fixed/static_embed.LS.weight"])
    with pytest.raises(ValueError, match="unknown kind"):
        golden_array({"name": "x", "kind": "poisson", "dtype": "float32"}, seed=0)
