"""Galileo's encoder against what the authors' code computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_rule
import pytest
import torch
from golden_rule import Case
from torch import Tensor

from rs_embed.nets import galileo
from rs_embed.nets.galileo import EncoderInput, GalileoEncoder, Tokens

CASES = golden_rule.cases("galileo")
PUBLISHED = golden_rule.spec("galileo")["published"]
RULED = [name for name, case in CASES.items() if "state_dict" in case.spec]
REAL = [name for name in CASES if name not in RULED]
ENCODED = [name for name in RULED if "s_t_x" in CASES[name].spec["inputs"]]


def loaded(config: dict[str, Any], state: dict[str, Tensor]) -> GalileoEncoder:
    net = GalileoEncoder(**config).eval()
    net.load_state_dict(galileo.clean_state(state), strict=True)
    return net


def encode(net: GalileoEncoder, given: dict[str, Tensor]) -> Tokens:
    sizes = {k: int(v) for k, v in given.items() if k in ("patch_size", "input_resolution_m")}
    arrays = {k: v for k, v in given.items() if k not in sizes}
    with torch.inference_mode():
        if "s_t_x" in given:
            return net(**arrays, **sizes)
        return net(*galileo.sensor_input(**arrays), **sizes)


def outputs(tokens: Tokens) -> dict[str, Tensor]:
    pooled = galileo.average_tokens(tokens)
    return {
        "pooled": pooled,
        "grid": galileo.patch_tokens(tokens, shared=True),
        "wrapper_pooled": pooled,
        "wrapper_grid": galileo.patch_tokens(tokens),
        "s_t_tokens": galileo.visible_groups(tokens.s_t, tokens.s_t_m),
        "sp_tokens": tokens.sp,
        "t_tokens": tokens.t,
        "st_tokens": tokens.st,
    }


def compare(net: GalileoEncoder, case: Case) -> None:
    wanted, got = case.expected(), outputs(encode(net, case.inputs()))
    golden_rule.assert_equal({name: got[name] for name in wanted}, wanted)


def example(side: int = 8, steps: int = 2) -> EncoderInput:
    generator = torch.Generator().manual_seed(0)
    return galileo.sensor_input(s2=torch.randn(1, side, side, steps, 10, generator=generator))


def small() -> GalileoEncoder:
    torch.manual_seed(0)
    return GalileoEncoder(embedding_size=32, depth=1, num_heads=2).eval()


@pytest.mark.parametrize("name", RULED)
def test_equals_the_authors(name: str) -> None:
    compare(loaded(CASES[name].config, CASES[name].state()), CASES[name])


@pytest.mark.parametrize("name", REAL)
def test_equals_the_authors_on_the_published_weights(name: str, shared: Path) -> None:
    state = torch.load(shared / CASES[name].spec["weights"], map_location="cpu", weights_only=True)
    compare(loaded(CASES[name].config, state), CASES[name])


@pytest.mark.parametrize("name", ENCODED)
def test_tables_equal_the_published_ones(name: str) -> None:
    own, fixed = GalileoEncoder(**CASES[name].config).state_dict(), CASES[name].fixed()
    for table in ("pos_embed", "month_embed.weight"):
        assert float((own[table] - fixed[table]).abs().max()) <= golden_rule.TABLE_TOLERANCE


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        net = GalileoEncoder(**PUBLISHED[variant]["config"])
    assert golden_rule.shapes(net) == PUBLISHED[variant]["parameters"]


@pytest.mark.parametrize("name", ["s2_p4", "everything_p8"])
def test_alone_as_in_the_batch(name: str) -> None:
    net, given = loaded(CASES[name].config, CASES[name].state()), CASES[name].inputs()
    together = encode(net, given)
    for i in range(len(given["months"])):
        alone = encode(net, {k: v[i : i + 1] if v.ndim else v for k, v in given.items()})
        golden_rule.assert_equal(alone._asdict(), {k: v[i : i + 1] for k, v in together._asdict().items()}, 2e-6)


def test_what_is_hidden_is_never_read() -> None:
    net, given = small(), example()
    given.s_t_m[:, :, :, 1, 2] = 2
    clean = net(*given, patch_size=4)
    holes = [x.masked_fill(x == 0, torch.nan) for x in given[:4]]
    holes[0][..., 1, 5:8] = torch.nan
    dirty = net(*holes, *given[4:], patch_size=4)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(clean.st, net.norm.bias.expand(1, 4, -1))


def test_padding_is_never_read() -> None:
    net, given = small(), example()
    both = EncoderInput(*(torch.cat((x, x)) for x in given))
    both.s_t_m[1, ..., 1, :] = 1
    both.s_t_x[1, ..., 1, :] = torch.nan
    tokens = net(*both, patch_size=4)
    short = EncoderInput(*(x[:, :, :, :1] if x.ndim == 5 else x for x in given))
    alone = net(*short._replace(t_x=given.t_x[:, :1], t_m=given.t_m[:, :1], months=given.months[:, :1]), patch_size=4)
    assert golden_rule.error(galileo.average_tokens(tokens)[1:], galileo.average_tokens(alone)) <= 2e-6


@pytest.mark.parametrize("patch_size", [1, 2, 3, 4, 6, 12])
def test_every_patch_size_gives_its_grid(patch_size: int) -> None:
    net, given = small(), example(side=12, steps=1)
    with torch.inference_mode():
        tokens = net(*given, patch_size=patch_size)
    side = 12 // patch_size
    assert galileo.patch_tokens(tokens).shape == (1, side, side, 32)
    assert bool(tokens.s_t.isfinite().all())


def test_kernels_made_in_inference_mode_serve_training() -> None:
    net, given = small(), example(side=10, steps=1)
    with torch.inference_mode():
        net(*given, patch_size=5)
    galileo.average_tokens(net(*given, patch_size=5)).sum().backward()
    assert net.space_time_embed["S2_RGB"].proj.weight.grad is not None
    assert net.space_time_embed["S1"].proj.weight.grad is None, "a hidden group was projected"


def test_half_precision_stays_close() -> None:
    net, given = small(), example(steps=1)
    with torch.inference_mode():
        wanted = galileo.average_tokens(net(*given, patch_size=4))
        halves = (x.bfloat16() if x.is_floating_point() else x for x in given)
        got = galileo.average_tokens(net.bfloat16()(*halves, patch_size=4))
    assert got.dtype == torch.bfloat16
    assert golden_rule.error(got, wanted) <= 0.05


def test_both_sensors_are_visible_together() -> None:
    given = galileo.sensor_input(s1=torch.ones(1, 4, 4, 2), s2=torch.ones(1, 4, 4, 10))
    assert given.s_t_m[0, 0, 0, 0].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert given.s_t_x[0, 0, 0, 0].tolist() == [1] * 12 + [0]
    assert given.months.tolist() == [[6]]


def test_frozen_projections_do_not_train() -> None:
    net = GalileoEncoder(32, 1, 2, freeze_projections=True, drop_path=0.1)
    assert not any(p.requires_grad for name, p in net.named_parameters() if "_embed." in name)
    assert net.s_t_channel_embed.requires_grad


def test_backbone_is_stripped() -> None:
    assert list(galileo.clean_state({"blocks.0.backbone.norm1.weight": torch.zeros(1)})) == ["blocks.0.norm1.weight"]


def test_bad_arguments_are_named() -> None:
    net, given = small(), example()
    with pytest.raises(ValueError, match="patch_size must divide the side of 8 pixels, got 3"):
        net(*given, patch_size=3)
    with pytest.raises(ValueError, match="every token of sample 0 is hidden"):
        net(*given._replace(s_t_m=torch.ones_like(given.s_t_m)), patch_size=4)
    with pytest.raises(ValueError, match=r"months must be \(1, 2\)"):
        net(*given._replace(months=given.months[:, :1]), patch_size=4)
    with pytest.raises(ValueError, match="1 to 24 time steps"):
        net(*example(steps=25), patch_size=4)
    with pytest.raises(ValueError, match="square, got 8 x 4"):
        net(*galileo.sensor_input(s1=torch.ones(1, 8, 4, 2)), patch_size=4)
    with pytest.raises(ValueError, match="s_t_x must be"):
        net(*given._replace(s_t_x=given.sp_x), patch_size=4)
    with pytest.raises(ValueError, match="multiple of 16"):
        GalileoEncoder(embedding_size=40, num_heads=2)


@pytest.mark.parametrize("bands", [{}, {"s1": (1, 4, 4, 3)}, {"s1": (1, 4, 4, 2), "s2": (1, 8, 8, 10)}])
def test_bad_sensors_are_refused(bands: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="s1"):
        galileo.sensor_input(**{name: torch.zeros(shape) for name, shape in bands.items()})
