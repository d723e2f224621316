"""One vector a polygon and year, and how far each has moved: `python examples/polygons_by_year.py`."""

from pathlib import Path

from rs_embed import TemporalSpec, get_embeddings_batch, read_regions, to_xarray

HERE = Path(__file__).parent


def main() -> dict[str, float]:
    """Return for each field the cosine similarity of its vectors of two years."""
    fields = read_regions(HERE / "data" / "fields.geojson", id="name").each(TemporalSpec.years(2021, 2022))
    embs = get_embeddings_batch("rcf", spatials=fields, backend="synthetic", features=128)
    table = to_xarray(embs)
    print(table.sizes, "ids:", ", ".join(str(i) for i in table["id"].values))
    found = {}
    for before, after in zip(embs[::2], embs[1::2], strict=True):
        name = str(before.meta["labels"]["region"])
        found[name] = float(before.similarity(after))
        print(f"{name}: similarity of 2021 and 2022 {found[name]:.4f}")
    return found


if __name__ == "__main__":
    main()
