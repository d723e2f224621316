"""CLIP's image towers against what open_clip computed."""

from __future__ import annotations

from typing import Any

import golden_rule
import pytest
import torch
from golden_rule import Case
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.clip import ModifiedResNet, VisionTransformer, build_visual, visual_state

CASES = golden_rule.cases("remoteclip")
PUBLISHED = golden_rule.spec("remoteclip")["published"]
SMALL: dict[str, Any] = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}


def built(config: dict[str, Any]) -> VisionTransformer | ModifiedResNet:
    config = {name: value for name, value in config.items() if name != "text_cfg"}
    return build_visual(**config).eval()


def loaded(case: Case) -> VisionTransformer | ModifiedResNet:
    net = built(case.config)
    net.load_state_dict(visual_state(case.state()), strict=True)
    return net


def outputs(net: VisionTransformer | ModifiedResNet, image: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        pooled, tokens = net(image)
        found = {"pooled": pooled, "pooled_unit": F.normalize(pooled, dim=-1)}
        if isinstance(net, ModifiedResNet):
            return found | {"feature_map": tokens}
        return found | {"patch_tokens": tokens.flatten(2).mT, "tokens_before_ln_post": net.encode(image)}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors(name: str) -> None:
    golden_rule.assert_equal(outputs(loaded(CASES[name]), **CASES[name].inputs()), CASES[name].expected())


@pytest.mark.parametrize("name", CASES)
def test_alone_as_in_the_batch(name: str) -> None:
    net, image = loaded(CASES[name]), CASES[name].inputs()["image"]
    together = outputs(net, image)
    for i in range(len(image)):
        golden_rule.assert_equal(outputs(net, image[i : i + 1]), {k: v[i : i + 1] for k, v in together.items()}, 2e-6)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        net = built(PUBLISHED[variant]["config"])
    wanted = {k.removeprefix("visual."): v for k, v in PUBLISHED[variant]["parameters"].items()}
    assert golden_rule.shapes(net) == wanted


def test_image_and_patch_need_not_be_square() -> None:
    config = SMALL | {"image_size": [32, 64], "patch_size": [16, 8], "head_width": 16, "mlp_ratio": 2.5}
    net = build_visual(embed_dim=8, vision_cfg=config)
    pooled, tokens = net(torch.zeros(1, 3, 32, 64))
    assert (net.prefix_tokens, net.grid) == (1, (2, 8))
    assert pooled.shape == (1, 8) and tokens.shape == (1, 64, 2, 8)
    assert net.state_dict()["transformer.resblocks.0.mlp.c_fc.weight"].shape == (160, 64)


@pytest.mark.parametrize("inside", [True, False])
def test_quick_gelu_may_stand_in_either_place(inside: bool) -> None:
    config = SMALL | ({"quick_gelu": True} if inside else {})
    net = build_visual(embed_dim=8, vision_cfg=config, quick_gelu=not inside)
    assert not any(isinstance(module, nn.GELU) for module in net.modules())


def test_unknown_keys_are_named() -> None:
    with pytest.raises(ValueError, match="timm_model_name"):
        build_visual(embed_dim=8, vision_cfg=SMALL | {"timm_model_name": "vit"})


def test_a_resnet_has_four_stages() -> None:
    with pytest.raises(ValueError, match="four stages"):
        build_visual(embed_dim=8, vision_cfg={"layers": [1, 1], "width": 8})


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads of 40"):
        build_visual(embed_dim=8, vision_cfg=SMALL | {"width": 130, "head_width": 40})


@pytest.mark.parametrize("layers", [1, [1, 1, 1, 1]])
def test_another_image_size_is_refused(layers: int | list[int]) -> None:
    net = build_visual(embed_dim=8, vision_cfg=SMALL | {"layers": layers})
    with pytest.raises(ValueError, match=r"\(N, 3, 32, 32\), got \(1, 3, 48, 48\)"):
        net(torch.zeros(1, 3, 48, 48))


def test_visual_state_drops_the_text_tower() -> None:
    one = torch.zeros(1)
    text = ["positional_embedding", "text_projection", "logit_scale", "token_embedding.weight", "ln_final.bias"]
    state = dict.fromkeys([*text, "visual.proj", "visual.bn1.num_batches_tracked", "transformer.resblocks.0.x"], one)
    assert list(visual_state(state)) == ["proj"]


@pytest.mark.parametrize("names", [["visual.proj", "strange"], ["logit_scale"]])
def test_visual_state_refuses_another_model(names: list[str]) -> None:
    with pytest.raises(ValueError, match="not a CLIP state dict"):
        visual_state(dict.fromkeys(names, torch.zeros(1)))
