"""Scale-MAE's encoder against what the authors' code computed."""

from __future__ import annotations

from typing import Any

import golden_rule
import pytest
import torch
from golden_rule import Case
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rs_embed.nets.layers import sincos_grid
from rs_embed.nets.scalemae import clean_state, ground_code
from rs_embed.nets.vit import ViT

CASES = golden_rule.cases("scalemae")
PUBLISHED = golden_rule.spec("scalemae")["published"]
OWN = {"img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "norm_eps"}


def built(config: dict[str, Any]) -> ViT:
    return ViT(stored_positions=False, **{k: v for k, v in config.items() if k in OWN})


def loaded(case: Case) -> ViT:
    net = built(case.config).eval()
    net.load_state_dict(clean_state(case.state()), strict=True)
    return net


def outputs(net: ViT, image: Tensor, input_res: Tensor) -> dict[str, Tensor]:
    rows, columns = net.grid_of((image.shape[2], image.shape[3]))
    with torch.inference_mode():
        before = net.encode(image, ground_code(rows, columns, net.embed_dim, input_res))
        after = net.norm(before)
    return {
        "tokens": after,
        "cls": after[:, 0],
        "mean": net.patch_features(after).mean(dim=1),
        "mean_before_norm": net.patch_features(before).mean(dim=1),
    }


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors(name: str) -> None:
    got, wanted = outputs(loaded(CASES[name]), **CASES[name].inputs()), CASES[name].expected()
    golden_rule.assert_equal({output: got[output] for output in wanted}, wanted, 2e-6)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        net = built(PUBLISHED[variant]["config"])
    assert golden_rule.shapes(net) == PUBLISHED[variant]["parameters"]


def test_each_sample_has_its_own_resolution() -> None:
    net, given_ = loaded(CASES["per_sample_res"]), CASES["per_sample_res"].inputs()
    together = outputs(net, **given_)
    for i in range(3):
        alone = outputs(net, **{name: value[i : i + 1] for name, value in given_.items()})
        golden_rule.assert_equal(alone, {name: value[i : i + 1] for name, value in together.items()}, 2e-6)
    other = outputs(net, given_["image"], given_["input_res"].flip(0))
    assert golden_rule.error(other["cls"][1], together["cls"][1]) <= 2e-6
    assert golden_rule.error(other["cls"][0], together["cls"][0]) > 1e-3


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.125, 50, width=32))
def test_the_code_is_mae_s_in_ground_units(rows: int, columns: int, size: float) -> None:
    code = ground_code(rows, columns, 16, torch.tensor([1.0, size]))
    assert code.dtype == torch.float32 and code.shape == (2, rows * columns, 16)
    assert torch.allclose(code[0], sincos_grid(rows, columns, 16), atol=1e-6)
    corner = code[1].reshape(rows, columns, 16)[-1, -1]
    assert abs(float(corner[0]) - float(torch.tensor((columns - 1) * size, dtype=torch.float64).sin())) < 1e-4
    assert abs(float(corner[8]) - float(torch.tensor((rows - 1) * size, dtype=torch.float64).sin())) < 1e-4


def test_the_code_is_float32_whatever_it_is_asked_in() -> None:
    wanted = ground_code(3, 3, 16, torch.tensor([7.3]))
    assert torch.equal(ground_code(3, 3, 16, torch.tensor([7.3], dtype=torch.float64)), wanted)
    net = built(CASES["res1"].config).bfloat16().eval()
    with torch.inference_mode():
        found = net(torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16), ground_code(4, 4, 96, torch.tensor([300.0])))
    assert found.dtype == torch.bfloat16 and bool(found.isfinite().all())


def test_every_published_layout_is_cleaned() -> None:
    wanted = ["cls_token", "blocks.0.norm1.weight"]
    extra = ["pos_embed", "mask_token", "mask_token_decoder", "decoder_embed.bias", "fpn.a", "fcn_high.b", "fcn.c"]
    authors = {name: torch.zeros(1) for name in [*wanted, *extra, "pos_emb_projection.weight"]}
    assert list(clean_state(authors)) == wanted
    assert list(clean_state({f"model.{name}": torch.zeros(1) for name in wanted})) == wanted


def test_bad_widths_are_named() -> None:
    with pytest.raises(ValueError, match="multiple of 4, got 10"):
        ground_code(2, 2, 10, torch.ones(1))
