"""All models on one region, side by side: `python examples/compare_models.py [MODEL=CHECKPOINT …]`.

Models whose weights are not on this machine are named with what would be downloaded; a checkpoint of your own may be
given for each.
"""

import sys
import time
import warnings

from rs_embed import PointBuffer, RSEmbedError, TemporalSpec, describe_model, get_embedding, list_models

PLACE, TIME = PointBuffer(11.457, 47.442, 320), TemporalSpec.range("2022-06-01", "2022-08-01")


def main(checkpoints: dict[str, str], *, download: bool = False) -> dict[str, int]:
    """Print a line a model; return the lengths of the vectors."""
    warnings.simplefilter("ignore", UserWarning)  # each says how far its window is from the training
    found = {}
    for name in list_models():
        facts = describe_model(name)
        weights = facts["variants"][facts["defaults"]["variant"]]["checkpoint"]
        options = {"checkpoint": checkpoints[name]} if name in checkpoints else {}
        if weights and not options and not download:
            print(
                f"{name:12} needs {weights['file']} of {weights['repository'] or weights['url']}: rs-embed pull {name}"
            )
            continue
        start = time.perf_counter()
        try:
            emb = get_embedding(name, spatial=PLACE, temporal=TIME, backend="synthetic", **options)
        except RSEmbedError as error:
            print(f"{name:12} {error}")
            continue
        found[name] = emb.dim
        gsd, frames = emb.meta["effective_gsd"], emb.meta["frames"]["found"]
        print(f"{name:12} D {emb.dim:5}  {gsd:5.1f} m  {frames} frames  {time.perf_counter() - start:5.2f} s")
    return found


if __name__ == "__main__":
    main(dict(each.split("=", 1) for each in sys.argv[1:]))
