"""Speed and memory of rs-embed as ratios: what we do beside the plain way to do it, in one run. See README.md."""
