"""A model that is loaded once and called again and again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from rs_embed.core.describe import describe
from rs_embed.core.embedding import Embedding
from rs_embed.core.registry import get_spec, list_models
from rs_embed.core.specs import FetchSpec, InputPrepSpec, OutputSpec, SensorSpec, TemporalSpec

if TYPE_CHECKING:
    from rs_embed.inference.session import Session
    from rs_embed.providers.base import Provider

__all__ = ["Model"]

_POOLED = OutputSpec.pooled()


class Model:
    """A model with its options, loaded once and called again and again.

    Parameters
    ----------
    name
        A model id or alias; `list_models` lists them.
    backend
        Where imagery comes from: see `get_embedding`.
    options
        The model's own options: ``describe_model(name)["model_config"]``.

    Raises
    ------
    RSEmbedError
        If anything of it is unknown or does not fit, when it is made.
    """

    def __init__(
        self,
        name: str,
        *,
        backend: str | Provider = "auto",
        device: str = "auto",
        sensor: SensorSpec | None = None,
        fetch: FetchSpec | None = None,
        modality: str | None = None,
        output: OutputSpec = _POOLED,
        input_prep: InputPrepSpec | str | None = "resize",
        batch_size: int | None = None,
        precision: str = "float32",
        **options: Any,
    ) -> None:
        from rs_embed.inference.products import open_backend
        from rs_embed.inference.session import open_session

        spec = get_spec(name)
        self.name = spec.name
        self.provider = open_backend(spec, backend)
        self._session: Session = open_session(
            spec,
            self.provider,
            sensor=sensor,
            fetch=fetch,
            modality=modality,
            output=output,
            device=device,
            input_prep=input_prep,
            precision=precision,
            batch_size=batch_size,
            options=options,
        )
        self._session.runtime()

    def __repr__(self) -> str:
        return f"<Model {self.name} backend={self.provider.name!r}>"

    def describe(self) -> dict[str, Any]:
        """Return the static facts of the model."""
        return describe(get_spec(self.name))

    def get_embedding(self, spatial: Any, *, temporal: TemporalSpec | None = None) -> Embedding:
        """Embed one region."""
        from rs_embed.inference.calls import embed_regions

        return embed_regions(self._session, self.provider, [spatial], temporal, "raise", False, single=True)[0]

    def get_embeddings_batch(
        self,
        spatials: Any,
        *,
        temporal: TemporalSpec | Sequence[TemporalSpec] | None = None,
        on_error: str = "raise",
        show_progress: bool | None = None,
    ) -> list[Embedding]:
        """Embed many regions; the result has their length and order. All is as in `rs_embed.get_embeddings_batch`."""
        from rs_embed.inference.calls import embed_regions

        return embed_regions(self._session, self.provider, spatials, temporal, on_error, show_progress)

    def iter_embeddings(
        self,
        spatials: Any,
        *,
        temporal: TemporalSpec | Sequence[TemporalSpec] | None = None,
        on_error: str = "raise",
        show_progress: bool | None = None,
    ) -> Generator[Embedding, None, None]:
        """Embed many regions one after the other, with flat memory; all is as in `rs_embed.iter_embeddings`."""
        from rs_embed.inference.calls import iter_regions

        return iter_regions(self._session, self.provider, spatials, temporal, on_error, show_progress)

    @staticmethod
    def list_models(*, include_aliases: bool = False) -> list[str]:
        """Return the ids of all models."""
        return list_models(include_aliases=include_aliases)
