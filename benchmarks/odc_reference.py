"""odc-stac over the same items, in an interpreter that has it: ``python odc_reference.py`` with a request on stdin."""

from __future__ import annotations

import json
import sys
import time
import warnings


def main() -> None:
    """Answer each line, a request as JSON, by the seconds that loading took."""
    warnings.simplefilter("ignore")
    import odc.stac
    import pystac
    from affine import Affine
    from odc.geo.geobox import GeoBox

    odc.stac.configure_rio(cloud_defaults=True)
    for line in sys.stdin:
        asked = json.loads(line)
        found = [pystac.Item.from_dict(item) for item in asked["items"]]
        box = GeoBox(tuple(asked["shape"]), Affine(*asked["transform"]), asked["crs"])
        start, used = time.perf_counter(), time.process_time()
        cube = odc.stac.load(found, bands=asked["bands"], geobox=box, groupby="solar_day", pool=asked["pool"])
        seconds = time.perf_counter() - start
        told = {"seconds": seconds, "cpu": time.process_time() - used, "sum": float(cube[asked["bands"][0]].sum())}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
