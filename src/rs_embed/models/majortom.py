"""Major TOM's embeddings: vectors of fragments of Sentinel scenes all over the land (Czerkawski et al. 2024)."""

from __future__ import annotations

from typing import Any

from rs_embed.core.model_spec import ModelSpec, Variant
from rs_embed.core.product import Product, product_sensor
from rs_embed.models._products import ANY_SIDE, identity

__all__ = ["MODELS"]

_CITATION = """@article{czerkawski2024global,
  title   = {Global and Dense Embeddings of Earth: Major TOM Floating in the Latent Space},
  author  = {Czerkawski, Mikolaj and Kluczek, Marcin and Bojanowski, Jędrzej S.},
  journal = {arXiv preprint arXiv:2412.05600},
  year    = {2024}
}"""


def _open(address: str) -> Any:
    from rs_embed.providers.products.chips import open_chips

    return open_chips(_PRODUCT, address)


_PRODUCT = Product(
    sensor=product_sensor(
        "majortom",
        "Major TOM Core embeddings",
        (),
        gsd=10.0,
        collections=("majortom",),
        attribution="Major TOM Core embeddings (CC-BY-SA-4.0); contains modified Copernicus Sentinel data",
    ),
    store="https://huggingface.co/datasets/Major-TOM",
    open=_open,
    annual=False,
    chips=True,
)


def _variant(repository: str, dims: int) -> Variant:
    """Return the variant of a data set of the organisation."""
    copies = f"{repository}/embeddings", repository, "embeddings", ""
    config = {"collection": f"Major-TOM/{repository}", "folders": copies}
    return Variant(window=ANY_SIDE, dims={"pooled": dims}, config=config, parameters=0)


MODELS = (
    ModelSpec(
        name="majortom",
        title="Major TOM embeddings: fragments of 2.2 to 3.8 km of Sentinel scenes of all land, by four models",
        inputs={},
        variants={
            "ssl4eo-s2l1c": _variant("Core-S2L1C-SSL4EO", 2048),
            "ssl4eo-s1rtc": _variant("Core-S1RTC-SSL4EO", 2048),
            "dinov2-s2rgb": _variant("Core-S2RGB-DINOv2", 768),
            "siglip-s2rgb": _variant("Core-S2RGB-SigLIP", 1152),
        },
        encoder=identity,
        pooled="window",
        pooled_says=(
            "the mean of the fragments that share ground with the region, each weighted by the ground that it shares; "
            "of fragments of one footprint the newest"
        ),
        citation=_CITATION,
        licence={"code": "Apache-2.0", "weights": "CC-BY-SA-4.0 (the embeddings)"},
        source="https://arxiv.org/abs/2412.05600",
        aliases=("major_tom", "majortom_embeddings"),
        product=_PRODUCT,
        notes=(
            "Read in place from Hugging Face with pyarrow (rs-embed[parquet]), by the statistics of row groups; the "
            "first call learns from all footers what lies where. SSL4EO's ResNet-50 saw 13 bands of Sentinel-2 L1C or "
            "VV and VH of Sentinel-1 RTC, DINOv2 and SigLIP true colour. A fragment is of one acquisition: temporal "
            "filters by its date, and without temporal every date counts. Share-alike: whoever passes vectors on, or "
            "what is derived from them, passes them on under the same licence. backend= takes the URL or folder of a "
            "copy."
        ),
    ),
)
