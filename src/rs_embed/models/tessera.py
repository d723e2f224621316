"""TESSERA's annual embeddings as its authors publish them (Feng et al. 2025)."""

from __future__ import annotations

from typing import Any

from rs_embed.core.model_spec import Certificate, ModelSpec, Variant
from rs_embed.core.product import Product, product_sensor
from rs_embed.models._products import ANY_SIDE, identity, input_of

__all__ = ["MODELS"]

_CITATION = """@article{feng2025tessera,
  title   = {TESSERA: Temporal Embeddings of Surface Spectra for Earth Representation and Analysis},
  author  = {Feng, Zhengpeng and others},
  journal = {arXiv preprint arXiv:2506.20380},
  year    = {2025}
}"""

VERSIONS = ("v1", "v1.1", "v1.1-cam", "v1.1-dclimate", "v2-2B-L~beta1", "v2-2B-L~beta2")
"""Their vectors are of different spaces; those of v1.1 and v1.1-dclimate are published as Zarr only."""


def _open(address: str) -> Any:
    from rs_embed.providers.products.tessera_zarr import open_tessera

    return open_tessera(_PRODUCT, address)


_PRODUCT = Product(
    sensor=product_sensor(
        "tessera",
        "TESSERA annual embeddings of Sentinel-1 and Sentinel-2",
        tuple(f"T{i:03d}" for i in range(128)),
        gsd=10.0,
        collections=("tessera", *(f"tessera/{version}" for version in VERSIONS)),
        attribution="TESSERA embeddings by the University of Cambridge (CC0-1.0); contains modified Copernicus data",
    ),
    store="https://data.source.coop/tessera/tessera",
    open=_open,
)


def _certificate() -> Certificate:
    from rs_embed.models.certificates.tessera import CERTIFICATE

    return CERTIFICATE


def _variant(version: str) -> Variant:
    dims = {"pooled": 128, "grid": 128}
    return Variant(window=ANY_SIDE, dims=dims, config={"collection": f"tessera/{version}"}, parameters=0)


MODELS = (
    ModelSpec(
        name="tessera",
        title="TESSERA: 128 numbers a year for every 10 m of land, precomputed by its authors",
        inputs=input_of(_PRODUCT),
        variants={version: _variant(version) for version in VERSIONS},
        encoder=identity,
        pooled="cells",
        pooled_says=(
            "the mean of the region's vectors, weighted by the share of each pixel inside (the authors define no "
            "vector of a region); water and what was not produced take no part"
        ),
        citation=_CITATION,
        licence={"code": "MIT", "weights": "CC0-1.0 (the embeddings)"},
        source="https://arxiv.org/abs/2506.20380",
        locality="pixel",
        certificate=_certificate,
        product=_PRODUCT,
        notes=(
            "Read in place from Source Cooperative, without an account; the variant is the version of the product, and "
            "vectors of two versions do not compare. Versions that are published as npy tiles are read from those, "
            "v1.1 and v1.1-dclimate from their Zarr stores (extra zarr). backend= takes the URL or folder of a copy of "
            "the store, or of one Zarr store in it, such as .../zarr/v1; pixels have the same values either way. The "
            "Icechunk store is not read."
        ),
    ),
)
