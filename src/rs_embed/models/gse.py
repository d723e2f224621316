"""AlphaEarth Foundations' annual embeddings, the Google Satellite Embedding (Brown et al. 2025)."""

from __future__ import annotations

from typing import Any

from rs_embed.core.encoding import Encoder
from rs_embed.core.model_spec import Build, Certificate, ModelSpec, Variant
from rs_embed.core.product import Product, product_sensor
from rs_embed.models._products import ANY_SIDE, OnSphere, input_of

__all__ = ["MODELS"]

_CITATION = """@article{brown2025alphaearth,
  title   = {AlphaEarth Foundations: An embedding field model for accurate and efficient global mapping from sparse
             label data},
  author  = {Brown, Christopher F. and others},
  journal = {arXiv preprint arXiv:2507.22291},
  year    = {2025}
}"""


def _open(address: str) -> Any:
    from rs_embed.providers.products.alphaearth_zarr import open_alphaearth

    return open_alphaearth(_PRODUCT, address)


_PRODUCT = Product(
    sensor=product_sensor(
        "gse",
        "AlphaEarth Foundations Satellite Embedding, V1 annual",
        tuple(f"A{i:02d}" for i in range(64)),
        gsd=10.0,
        collections=("GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL", "gse/v1", "alphaearth"),
        attribution=(
            "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and Google DeepMind."
        ),
    ),
    store="https://data.source.coop/tge-labs/aef/v1/annual",
    open=_open,
    unit=True,
    earth_engine="GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL",
)


def _encoder(build: Build) -> Encoder:
    return OnSphere()


def _certificate() -> Certificate:
    from rs_embed.models.certificates.gse import CERTIFICATE

    return CERTIFICATE


MODELS = (
    ModelSpec(
        name="gse",
        title="AlphaEarth Foundations Satellite Embedding: 64 numbers a year for every 10 m of land",
        inputs=input_of(_PRODUCT),
        variants={
            "v1": Variant(
                window=ANY_SIDE, dims={"pooled": 64, "grid": 64}, config={"collection": "gse/v1"}, parameters=0
            )
        },
        encoder=_encoder,
        pooled="cells",
        pooled_says=(
            "the mean of the region's vectors, weighted by the share of each pixel inside, divided by its length: as "
            "the data set's own overviews are made"
        ),
        citation=_CITATION,
        licence={"code": "none (a data set)", "weights": "CC-BY-4.0 (the embeddings)"},
        source="https://arxiv.org/abs/2507.22291",
        aliases=("gse_annual",),
        locality="pixel",
        certificate=_certificate,
        product=_PRODUCT,
        notes=(
            'Read in place from the open mirror at Source Cooperative, without an account; with backend="gee", from '
            "Earth Engine where this machine has a login (the same values). backend= also takes the URL or folder of a "
            "copy of the mirror."
        ),
    ),
)
