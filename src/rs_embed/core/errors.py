"""The exceptions of rs-embed, all under one root.

::

    RSEmbedError
    ├── SpecError (also a ValueError)   a place, time, sensor or output that cannot be meant
    ├── ModelError                      an unknown model or option, or an input that a model cannot take
    │   ├── CheckpointError             weights that are missing, damaged or of another model
    │   └── MissingExtraError           an optional dependency that is not installed
    ├── ProviderError                   imagery could not be reached or read
    │   └── NoImageryError              nothing usable exists for the request
    ├── StoreError                      a file of embeddings could not be read or written
    └── BatchError                      some regions of a batch failed; holds the results of the others
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BatchError",
    "CheckpointError",
    "MissingExtraError",
    "ModelError",
    "NoImageryError",
    "ProviderError",
    "RSEmbedError",
    "SpecError",
    "StoreError",
]


class RSEmbedError(Exception):
    """Root of every error that rs-embed raises on purpose."""


class SpecError(RSEmbedError, ValueError):
    """A specification names a value that cannot be meant; the message names field, value and remedy."""


class ModelError(RSEmbedError):
    """An unknown model or option, or an input that the model cannot take."""


class CheckpointError(ModelError):
    """Weights that are missing, damaged or belong to another model or variant."""


class MissingExtraError(ModelError, ImportError):
    """An optional dependency is not installed; the message says which command installs it."""


class ProviderError(RSEmbedError):
    """Imagery could not be reached or read."""


class NoImageryError(ProviderError):
    """No usable imagery exists for the request (no scene, or nothing clear in any of them)."""


class StoreError(RSEmbedError):
    """A file of embeddings is damaged, was not written by rs-embed, or could not be written."""


class BatchError(RSEmbedError):
    """Some regions of a batch failed while the others were finished.

    Attributes
    ----------
    results
        One entry a region in the order of the request: an ``Embedding``, or ``None`` where it failed.
    errors
        ``{index: RSEmbedError}`` of the regions that failed.
    """

    def __init__(self, results: list[Any], errors: dict[int, RSEmbedError]) -> None:
        first = min(errors)
        super().__init__(
            f"{len(errors)} of {len(results)} regions failed; the first is region {first}: {errors[first]} "
            "(the other results are in .results, every error in .errors; on_error='return' returns them instead)"
        )
        self.results = results
        self.errors = errors
