"""The catalogue: one declarative file a family, each with ``MODELS``."""
