"""Copernicus-Embed: one vector of Copernicus-FM for every quarter degree of land (Wang et al. 2025)."""

from __future__ import annotations

from typing import Any

from rs_embed.core.model_spec import ModelSpec, Variant
from rs_embed.core.product import Product, product_sensor
from rs_embed.models._products import ANY_SIDE, identity, input_of

__all__ = ["MODELS"]

_CITATION = """@article{wang2025copernicus,
  title   = {Towards a Unified Copernicus Foundation Model for Earth Vision},
  author  = {Wang, Yi and others},
  journal = {arXiv preprint arXiv:2503.11849},
  year    = {2025}
}"""

_FILE = "embed_map_310k.tif"


def _open(address: str) -> Any:
    from rs_embed.providers.products.single import open_single, zeros_are_nothing

    return open_single(_PRODUCT, address, file=_FILE, decode=zeros_are_nothing)


_PRODUCT = Product(
    sensor=product_sensor(
        "copernicus",
        "Copernicus-Embed-025deg",
        tuple(f"C{i:03d}" for i in range(768)),
        gsd=27800.0,
        collections=("copernicus", "copernicus-embed-025deg"),
        attribution="Copernicus-Embed-025deg (CC-BY-4.0); contains modified Copernicus data",
    ),
    store=(
        "https://huggingface.co/datasets/torchgeo/copernicus_embed/resolve/435b4a7bdce6f6fdbf4272f9d6e54f2604f35fdb"
    ),
    open=_open,
    annual=False,
)


MODELS = (
    ModelSpec(
        name="copernicus",
        title="Copernicus-Embed: one vector of 768 numbers for every quarter degree of land",
        inputs=input_of(_PRODUCT),
        variants={
            "025deg": Variant(
                window=ANY_SIDE, dims={"pooled": 768, "grid": 768}, config={"collection": "copernicus"}, parameters=0
            )
        },
        encoder=identity,
        pooled="cells",
        pooled_says=(
            "the mean of the cells' vectors, weighted by the area of each inside the region; cells of zeros (oceans) "
            "take no part, and a region within one cell gets that cell"
        ),
        citation=_CITATION,
        licence={"code": "Apache-2.0", "weights": "CC-BY-4.0 (the embeddings)"},
        source="https://arxiv.org/abs/2503.11849",
        aliases=("copernicus_embed",),
        locality="pixel",
        product=_PRODUCT,
        notes=(
            "Without a time axis: made of imagery of about 2021. Cells lie where the file's own transform says; "
            "whether the authors mean centres or corners, half a cell apart, they do not say. backend= takes the URL "
            "or folder of a copy, or the path of the file."
        ),
    ),
)
