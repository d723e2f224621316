"""Clay's encoder against what the authors' code computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import golden_rule
import pytest
import torch
from golden_rule import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rs_embed.inference.golden import GoldenFile
from rs_embed.models.certificates.clay import CERTIFICATE
from rs_embed.nets.clay import ClayEncoder, clean_state, position_code

CASES = golden_rule.cases("clay")
PUBLISHED = golden_rule.spec("clay")["published"]
GOLDEN = GoldenFile.open(Path(__file__).parents[1] / "golden" / "clay.json")
UNUSED = {"mask_ratio", "shuffle"}
WAVES = torch.tensor([0.665, 0.842, 1.61])

# the authors' configurations without published weights (claymodel/model.py: clay_mae_tiny, _small, _base)
UNPUBLISHED = {"tiny": (192, 6, 4, 48, 2), "small": (384, 6, 6, 64, 2), "base": (768, 12, 12, 64, 4)}


def loaded(case: Case) -> ClayEncoder:
    net = ClayEncoder(**{k: v for k, v in case.config.items() if k not in UNUSED}).eval()
    net.load_state_dict(clean_state(case.state()), strict=True)
    return net


def outputs(net: ClayEncoder, given: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode():
        pooled, grid = net(**given)
        patches = grid.flatten(2).mT
        return {
            "cls": pooled,
            "mean": patches.mean(1),
            "tokens": torch.cat((pooled[:, None], patches), 1),
            "patch_embedding": net.patch_embedding(given["pixels"], given["waves"]).flatten(2).mT,
        }


def small() -> ClayEncoder:
    torch.manual_seed(0)
    return ClayEncoder(dim=40, depth=2, heads=2, dim_head=16).eval()


def example(rows: int = 32, columns: int = 32, count: int = 1, **change: Tensor) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "pixels": torch.randn(count, 3, rows, columns, generator=generator),
        "time": torch.randn(count, 4, generator=generator),
        "latlon": torch.randn(count, 4, generator=generator),
        "gsd": torch.full((count,), 10.0),
        "waves": WAVES,
    } | change


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors(name: str) -> None:
    golden_rule.assert_equal(outputs(loaded(CASES[name]), CASES[name].inputs()), CASES[name].expected())


@pytest.mark.parametrize("name", ["s2", "s1"])
def test_alone_as_in_the_batch(name: str) -> None:
    net, given = loaded(CASES[name]), CASES[name].inputs()
    together = outputs(net, given)
    for i in range(2):
        alone = {k: v[i : i + 1] if k in ("pixels", "time", "latlon") else v for k, v in given.items()}
        golden_rule.assert_equal(outputs(net, alone), {k: v[i : i + 1] for k, v in together.items()}, 2e-6)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        net = ClayEncoder(**PUBLISHED[variant]["config"])
    assert golden_rule.shapes(net) == PUBLISHED[variant]["parameters"]


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_the_certificate_builds_sizes_without_weights(name: str) -> None:
    dim, depth, heads, head, ratio = UNPUBLISHED[name]
    assert CERTIFICATE.shapes is not None
    config = {"mask_ratio": 0.75, "patch_size": 8, "shuffle": True, "dim_head": head, "mlp_ratio": ratio}
    found = CERTIFICATE.shapes({**config, "dim": dim, "depth": depth, "heads": heads})
    assert found["model.encoder.transformer.layers.0.0.to_qkv.weight"] == (3 * head * heads, dim)
    assert found["model.encoder.transformer.layers.0.1.net.1.weight"] == (ratio * dim, dim)
    assert f"model.encoder.transformer.layers.{depth - 1}.0.norm.weight" in found


def test_every_sample_has_its_own_pixel_size_place_and_time() -> None:
    net, given = small(), example(count=3, gsd=torch.tensor([10.0, 500.0, 0.5]))
    together = outputs(net, given)
    for i in range(3):
        alone = {k: v if k == "waves" else v[i : i + 1] for k, v in given.items()}
        golden_rule.assert_equal(outputs(net, alone), {k: v[i : i + 1] for k, v in together.items()}, 5e-6)
    for name in ("gsd", "time", "latlon"):
        told = given | {name: given[name].roll(1, 0)}
        assert golden_rule.error(outputs(net, told)["cls"], together["cls"]) > 1e-4, name


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.5, 10.0, 500.0]))
def test_positions_of_a_part_are_a_part_of_the_positions(rows: int, columns: int, gsd: float) -> None:
    size = torch.tensor([gsd])
    whole, part = position_code(6, 6, 16, size), position_code(rows, columns, 16, size)
    assert torch.equal(part, whole[:, :rows, :columns])


def test_a_position_is_the_columns_then_the_rows() -> None:
    code = position_code(3, 5, 16, torch.tensor([10.0]))[0]
    assert torch.equal(code[..., :8], code[:1, :, :8].expand(3, 5, 8))
    assert torch.equal(code[..., 8:], code[:, :1, 8:].expand(3, 5, 8))
    assert not torch.equal(code[0, 1], code[1, 0])


@pytest.mark.parametrize(("rows", "columns"), [(24, 40), (40, 8)])
def test_a_rectangles_tokens_are_the_squares_cut(rows: int, columns: int) -> None:
    net, given = small(), example(40, 40)
    with torch.inference_mode():
        whole = net.embed(**given)
        cut = net.embed(**given | {"pixels": given["pixels"][..., :rows, :columns]})
        pooled, grid = net(**given | {"pixels": given["pixels"][..., :rows, :columns]})
        tokens = net.encode(whole[:, : rows // 8, : columns // 8].flatten(1, 2))
    assert golden_rule.error(cut, whole[:, : rows // 8, : columns // 8]) <= 2e-6
    assert grid.shape == (1, 40, rows // 8, columns // 8)
    golden_rule.assert_equal({"x": torch.cat((pooled[:, None], grid.flatten(2).mT), 1)}, {"x": tokens}, 5e-6)


@settings(max_examples=6)
@given(st.permutations(range(3)))
def test_the_order_of_the_bands_changes_nothing(order: list[int]) -> None:
    net, given = small(), example()
    turned = given | {"pixels": given["pixels"][:, order], "waves": WAVES[order]}
    golden_rule.assert_equal(outputs(net, turned), outputs(net, given), 1e-5)


def test_halves_keep_their_codes_in_float32() -> None:
    net, given = small(), example(gsd=torch.tensor([500.0]))
    wanted = outputs(net, given)["cls"]
    halves = {k: v if k in ("gsd", "waves") else v.bfloat16() for k, v in given.items()}
    got = outputs(net.bfloat16(), halves)["cls"]
    assert got.dtype == torch.bfloat16 and golden_rule.error(got, wanted) <= 0.05


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pixels": torch.zeros(1, 3, 7, 32)}, "of 8 or more"),
        ({"pixels": torch.zeros(3, 32, 32)}, "of 8 or more"),
        ({"waves": WAVES[:2]}, r"waves must be \(3,\)"),
        ({"time": torch.zeros(1, 2)}, r"time must be \(1, 4\)"),
        ({"latlon": torch.zeros(2, 4)}, r"latlon must be \(1, 4\)"),
        ({"gsd": torch.zeros(2)}, r"gsd must be \(1,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small()(**example(**change))


@pytest.mark.parametrize("dim", [8, 12, 42])
def test_a_width_without_room_for_the_code_is_refused(dim: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 4 and at least 16, got {dim}"):
        ClayEncoder(dim=dim)


def test_only_the_encoders_part_of_a_file_is_kept() -> None:
    one = torch.zeros(1)
    names = ["model.encoder.cls_token", "model.decoder.mask_patch", "model.teacher.norm.weight", "model.proj.bias"]
    assert list(clean_state(dict.fromkeys(names, one))) == ["cls_token"]
    with pytest.raises(ValueError, match="not a Clay checkpoint"):
        clean_state(dict.fromkeys(names[1:], one))


def changed(**config: Any) -> Any:
    case = GOLDEN.case("s2_unknown")
    return dataclasses.replace(case, config={**case.config, **config})


def test_the_certificate_hides_the_first_patches_as_the_authors_do() -> None:
    outs = CERTIFICATE.run(changed(mask_ratio=0.5))
    assert outs["tokens"].shape == (1, 1 + 13, 64), "int(0.5 * 25) of 25 are hidden"
    assert CERTIFICATE.run(changed())["tokens"].shape == (1, 26, 64)


@pytest.mark.parametrize(
    ("config", "said"), [({"shuffle": True}, "random order"), ({"fused_attn": False}, "no argument 'fused_attn'")]
)
def test_the_certificate_refuses_what_it_cannot_compare(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CERTIFICATE.run(changed(**config))
