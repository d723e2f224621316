"""Points with labels to a classifier: `python examples/land_cover_from_points.py`.

The points and their cover are of the painted landscape; with a table of your own and backend="auto" the same lines
classify crops.
"""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rs_embed import TemporalSpec, get_embeddings_batch, load, read_regions, save

HERE = Path(__file__).parent


def main(model: str = "imagestats", out: str = "plots.parquet") -> float:
    """Embed the plots, write them with their labels, and return the accuracy of five-fold cross-validation."""
    plots = read_regions(HERE / "data" / "plots.csv", id="plot", buffer_m=40)
    embs = get_embeddings_batch(model, spatials=plots, temporal=TemporalSpec.parse("2022-07"), backend="synthetic")
    save(embs, out, overwrite=True)

    table = load(out)
    X, y = np.stack([e.data for e in table]), [e.meta["labels"]["cover"] for e in table]
    scores = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)), X, y, cv=5)
    print(f"{len(y)} plots of {len(set(y))} classes: accuracy {scores.mean():.2f} ± {scores.std():.2f}")
    return float(scores.mean())


if __name__ == "__main__":
    main()
