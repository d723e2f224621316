"""Several services as one: a request goes to the first that has its scenes and works, and the next takes over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.imagery import ImageRequest, ImageStack, Interval, Scene
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.memo import Memo
from rs_embed.providers.raster import Layout
from rs_embed.providers.selection import MOST_PASSES, select_scenes

__all__ = ["FailoverProvider"]

T = TypeVar("T")


@dataclass
class _Turn:
    """Which service answers a request, the same for all its parts."""

    left: list[SceneProvider]
    """The one whose turn it is, and those after it."""
    tried: dict[str, ProviderError] = field(default_factory=dict)
    answered: bool = False
    """Whether a part was given out: from then on no other service may answer."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class FailoverProvider:
    """A provider over services, in the order in which they are asked.

    A service hands over to the next where it cannot be reached, refuses, or has no scenes for the request, or where its
    scenes cannot be read before any part of the request was given out. Stacks name who answered (``origin``), and what
    was tried before (``notes``).

    Parameters
    ----------
    services
        In order of preference.
    """

    name = "auto"
    waits = True
    most_passes: int | None = MOST_PASSES

    def __init__(self, services: Sequence[SceneProvider]) -> None:
        self.services = tuple(services)
        self.source = ", ".join(each.source for each in self.services)
        self._turns: Memo[_Turn] = Memo(4096)

    def __reduce__(self) -> tuple[type[FailoverProvider], tuple[tuple[SceneProvider, ...]]]:
        return type(self), (self.services,)

    def offers(self, sensor: str) -> bool:
        """Whether any of the services may have imagery of that sensor."""
        return any(each.offers(sensor) for each in self.services)

    def refusal(self, sensor: str) -> str:
        """Return why imagery of a sensor that none of them offers cannot be used, or else what they have."""
        told = (getattr(each, "refusal", None) for each in self.services)
        return "; ".join(filter(None, (tell(sensor) for tell in told if tell is not None)))

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Yield one stack for each part, all from one service: see `rs_embed.providers.base.Provider`.

        Raises
        ------
        NoImageryError
            If none of the services has a scene; the message is the first one's.
        ProviderError
            If no service answered; the message says why of each.
        """
        for part in parts:

            def loaded(service: SceneProvider, part: GeoBox = part) -> ImageStack:
                (stack,) = service.load(request, [part])
                return stack

            stack, service, turn = self._answer(request, loaded, final=True)
            yield _named(stack, service, turn)

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        """Return the scenes of the service that will answer the request, as far as that can be known without reading.

        Raises
        ------
        ProviderError
            As `load` does.
        """

        def found(service: SceneProvider) -> list[Scene]:
            select_scenes(service, request)  # it has scenes for the request, though perhaps none in this interval
            return service.search(request, interval)

        return self._answer(request, found, final=False)[0]

    def layout(self, scene: Scene, band: str) -> Layout | None:
        """Return how files like that of a scene's band keep their pixels, if one of the services can tell."""
        told = (getattr(each, "layout", None) for each in self.services)
        return next((found for tell in told if tell is not None and (found := tell(scene, band)) is not None), None)

    def _begin(self, request: ImageRequest) -> _Turn:
        able = [each for each in self.services if each.offers(request.sensor)]
        if not able:
            names = ", ".join(each.name for each in self.services)
            why = self.refusal(request.sensor)
            said = f"none of the open services ({names}) has imagery of {request.sensor}"
            raise ProviderError(f"{said}; {why}" if why else said)
        return _Turn(able)

    def _answer(
        self, request: ImageRequest, call: Callable[[SceneProvider], T], *, final: bool
    ) -> tuple[T, SceneProvider, _Turn]:
        """Call the service whose turn it is, or the next; ``final``: from then on no other may answer."""
        turn = self._turns.get(request.key(), lambda: self._begin(request))
        while True:
            with turn.lock:
                if not turn.left:
                    self._turns.forget(request.key())  # the next who asks may be luckier
                    raise _failure(turn, request)
                service = turn.left[0]
            try:
                found = call(service)
            except ProviderError as error:
                self._hand_over(turn, service, error)
                continue
            with turn.lock:
                if turn.left and turn.left[0] is service:
                    turn.answered = turn.answered or final
                    return found, service, turn

    def _hand_over(self, turn: _Turn, service: SceneProvider, error: ProviderError) -> None:
        """Give the turn to the next service, unless this one has answered already or another thread was faster."""
        with turn.lock:
            if not turn.left or turn.left[0] is not service:
                return
            if turn.answered:
                error.add_note(
                    f"other parts of this region were read from {service.name}; no other service completes it"
                )
                raise error
            turn.tried[service.name] = error
            del turn.left[0]


def _named(stack: ImageStack, service: SceneProvider, turn: _Turn) -> ImageStack:
    said = tuple(f"{service.name} answered, since {_brief(name, error)}" for name, error in turn.tried.items())
    return replace(stack, origin=(service.name, service.source), notes=(*stack.notes, *said))


def _brief(name: str, error: ProviderError) -> str:
    """What kept a service from answering, without the advice."""
    said = str(error).partition("; ")[0]
    return f"{name} has none: {said}" if isinstance(error, NoImageryError) else f"{name} did not: {said}"


def _failure(turn: _Turn, request: ImageRequest) -> ProviderError:
    """The error where no service answered: no imagery only where all of them said so."""
    errors = list(turn.tried.values())
    if len(errors) == 1:
        return type(errors[0])(str(errors[0]))
    if all(isinstance(error, NoImageryError) for error in errors):
        return NoImageryError(f"{errors[0]} (asked: {', '.join(turn.tried)})")
    listed = "; ".join(f"({i}) {name}: {error}" for i, (name, error) in enumerate(turn.tried.items(), start=1))
    return ProviderError(f"no open service could answer for {request.sensor}: {listed}")
