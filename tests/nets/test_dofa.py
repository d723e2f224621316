"""DOFA's nets against what the authors' code computed."""

from __future__ import annotations

from typing import Any

import golden_rule
import pytest
import torch
from golden_rule import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rs_embed.core.model_spec import GoldenCase
from rs_embed.models.certificates.dofa import CERTIFICATE
from rs_embed.nets.dofa import DofaV1, DofaV2, v1_state, v2_state
from rs_embed.nets.layers import frequencies
from rs_embed.nets.wavelengths import CODE_WIDTH, KernelGenerator, wavelength_code

CASES = golden_rule.cases("dofa")
PUBLISHED = golden_rule.spec("dofa")["published"]
V1 = [name for name, case in CASES.items() if case.config["class"] == "OFAViT"]
V2 = [name for name in CASES if name not in V1]
V1_ARGUMENTS = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "global_pool", "norm_eps"}
V2_ARGUMENTS = {"patch_size", "embed_dim", "depth", "num_heads"}
WAVES = torch.tensor([0.665, 0.56, 0.49, 0.842])


def v1(case: Case) -> DofaV1:
    net = DofaV1(**{k: v for k, v in case.config.items() if k in V1_ARGUMENTS}).eval()
    net.load_state_dict(v1_state(case.state(), global_pool=case.config["global_pool"]), strict=True)
    return net


def v2(case: Case) -> DofaV2:
    net = DofaV2(**{k: v for k, v in case.config.items() if k in V2_ARGUMENTS}).eval()
    net.load_state_dict(v2_state(case.state()), strict=True)
    return net


def outputs(name: str, image: Tensor, wave_list: Tensor) -> dict[str, Tensor]:
    case, waves = CASES[name], wave_list.float()
    with torch.inference_mode():
        if name in V1:
            net = v1(case)
            pooled, tokens = net(image, waves)
            embedded = net.patch_embed(image, waves).flatten(2).mT
            return {"pooled": pooled, "tokens": tokens, "patch_embedding": embedded}
        other, indices = v2(case), case.config["out_indices"]
        tokens = other(image, waves)
        maps = dict(zip(indices, other.maps(image, waves, indices), strict=True))
        return {f"map_{i}": each for i, each in maps.items()} | {"tokens": tokens, "mean": tokens[:, 1:].mean(1)}


def small(side: int = 64, **config: Any) -> DofaV1:
    torch.manual_seed(0)
    return DofaV1(img_size=side, embed_dim=32, depth=1, num_heads=2, **config).eval()


def picture(bands: int = 4, side: int = 64, count: int = 1) -> Tensor:
    return torch.randn(count, bands, side, side, generator=torch.Generator().manual_seed(bands))


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors(name: str) -> None:
    golden_rule.assert_equal(outputs(name, **CASES[name].inputs()), CASES[name].expected())


@pytest.mark.parametrize("name", ["v1_s2", "v1_s1"])
def test_alone_as_in_the_batch(name: str) -> None:
    inputs = CASES[name].inputs()
    together = outputs(name, **inputs)
    for i in range(len(inputs["image"])):
        alone = outputs(name, inputs["image"][i : i + 1], inputs["wave_list"])
        golden_rule.assert_equal(alone, {k: v[i : i + 1] for k, v in together.items()}, 2e-6)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    assert CERTIFICATE.shapes is not None
    found = CERTIFICATE.shapes(PUBLISHED[variant]["config"])
    assert {name: list(shape) for name, shape in found.items()} == PUBLISHED[variant]["parameters"]


@settings(max_examples=10)
@given(st.permutations(range(4)))
def test_the_order_of_the_bands_changes_nothing(order: list[int]) -> None:
    net, image = small(), picture()
    with torch.inference_mode():
        wanted, got = net(image, WAVES)[0], net(image[:, order], WAVES[order])[0]
    assert golden_rule.error(got, wanted) <= 5e-6


def test_bands_of_one_wavelength_have_one_kernel() -> None:
    net, image, radar = small(), picture(bands=2), torch.tensor([5.405, 5.405])
    with torch.inference_mode():
        one, other = net.patch_embed(image, radar), net.patch_embed(image.flip(1), radar)
        summed = net.patch_embed(torch.stack((image.sum(1), image.new_zeros(1, 64, 64)), 1), radar)
    assert golden_rule.error(one, other) <= 2e-6 and golden_rule.error(one, summed) <= 2e-6


def test_another_wavelength_is_another_kernel() -> None:
    net, image = small(), picture(bands=1)
    with torch.inference_mode():
        red, blue = (net.patch_embed(image, torch.tensor([wave])) for wave in (0.665, 0.49))
    assert golden_rule.error(red, blue) > 0.1


@pytest.mark.parametrize(("pixel", "patch"), [((0, 14), (0, 0)), ((0, 15), (0, 1)), ((47, 62), (3, 3))])
def test_patches_lie_a_pixel_up_and_left(pixel: tuple[int, int], patch: tuple[int, int]) -> None:
    net, image = small(), picture()
    touched = image.clone()
    touched[..., pixel[0], pixel[1]] += 5
    with torch.inference_mode():
        moved = (net.patch_embed(image, WAVES) != net.patch_embed(touched, WAVES)).any(dim=1)[0]
    assert moved.nonzero().tolist() == [list(patch)]


def test_the_last_row_and_column_are_not_read() -> None:
    net, image = small(), picture()
    touched = image.clone()
    touched[..., 63, :] = touched[..., :, 63] = 99
    with torch.inference_mode():
        assert torch.equal(net.patch_embed(image, WAVES), net.patch_embed(touched, WAVES))


def test_a_code_is_float32_on_the_cpu_whatever_it_is_given() -> None:
    code = wavelength_code(WAVES.double() * 1000, frequencies(CODE_WIDTH))
    assert code.dtype == torch.float32 and code.shape == (4, CODE_WIDTH)
    assert torch.equal(code[:, 0], (WAVES * 1000).sin()), "the first frequency is 1"


@pytest.mark.parametrize(("heads", "depth"), [(4, 1), (8, 2)])
def test_the_generator_is_torchs_encoder_with_learned_tokens(heads: int, depth: int) -> None:
    torch.manual_seed(0)
    ours = KernelGenerator(50, 7, heads=heads, depth=depth).eval()
    layer = nn.TransformerEncoderLayer(CODE_WIDTH, heads, dim_feedforward=2048, dropout=0.0, activation="gelu")
    theirs = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).eval()
    prefix = "transformer_encoder."
    state = {n.removeprefix(prefix): v for n, v in ours.state_dict().items() if n.startswith(prefix)}
    theirs.load_state_dict(state, strict=True)
    codes = torch.randn(5, CODE_WIDTH)
    with torch.inference_mode():
        out = theirs(torch.cat((ours.weight_tokens, codes, ours.bias_token)))
        wanted = {"kernel": ours.fc_weight(out[128:-1] + codes), "bias": ours.fc_bias(out[-1])}
        golden_rule.assert_equal(dict(zip(("kernel", "bias"), ours(codes), strict=True)), wanted, 1e-6)


def test_codes_stay_float32_where_weights_are_halves() -> None:
    net, image = small(), picture()
    with torch.inference_mode():
        wanted = net(image, WAVES)[0]
        got = net.bfloat16()(image.bfloat16(), WAVES)[0]
    assert got.dtype == torch.bfloat16
    assert golden_rule.error(got, wanted) <= 0.05


@pytest.mark.parametrize("side", [48, 80])
def test_another_size_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match=rf"4 x 4 patches.*{side // 16} x {side // 16}"):
        small()(picture(side=side), WAVES)


def test_every_band_needs_a_wavelength() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 64, 64\) and \(3,\)"):
        small()(picture(), WAVES[:3])


def test_version_2_is_of_one_size() -> None:
    net = DofaV2(embed_dim=24, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="16 x 16 patches"):
        net(picture(side=196), WAVES)


def test_maps_are_the_blocks_outputs_before_the_norm() -> None:
    torch.manual_seed(0)
    net = DofaV2(embed_dim=24, depth=2, num_heads=2).eval()
    image = picture(side=224)
    with torch.inference_mode():
        (last,) = net.maps(image, WAVES, [1])
        tokens, normed = net(image, WAVES), net.model.norm(last.flatten(2).mT)
    assert last.shape == (1, 24, 16, 16)
    assert golden_rule.error(normed, tokens[:, 1:]) <= 1e-6


def test_only_the_encoders_part_of_a_file_is_kept() -> None:
    one = torch.zeros(1)
    names = ["mask_token", "norm.weight", "projector.bias", "head.weight", "fc_norm.weight", "cls_token"]
    assert list(v1_state(dict.fromkeys(names, one))) == ["fc_norm.weight", "cls_token"]
    assert list(v1_state(dict.fromkeys(names, one), global_pool=False)) == ["norm.weight", "cls_token"]
    assert list(v2_state(dict.fromkeys(["norm.bias", "model.norm.bias"], one))) == ["model.norm.bias"]


def case_of(config: dict[str, Any]) -> GoldenCase:
    net = DofaV1(64, embed_dim=32, depth=1, num_heads=2)
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    image = picture().numpy()
    return GoldenCase(config, {"image": image, "wave_list": WAVES.numpy()}, {"pooled": (1, 32)}, state)


SMALL = {"embed_dim": 32, "depth": 1, "num_heads": 2}


@pytest.mark.parametrize("size", [64, [64], (64, 64)])
def test_the_certificate_takes_a_side_in_any_form(size: Any) -> None:
    assert CERTIFICATE.run(case_of({**SMALL, "img_size": size, "num_classes": 45}))["pooled"].shape == (1, 32)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"img_size": [64, 32]}, "square"),
        ({"img_size": 64, "class": "ViT"}, "class 'ViT'"),
        ({"img_size": 64, "qkv_bias": False}, "no argument 'qkv_bias'"),
    ],
)
def test_the_certificate_refuses_what_it_does_not_know(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CERTIFICATE.run(case_of({**SMALL, **config}))
