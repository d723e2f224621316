"""Signed URLs: tokens of a service's endpoint, reused until shortly before they expire.

As Planetary Computer documents them: ``GET {endpoint}/{account}/{container}`` answers ``{"token": "<query string>",
"msft:expiry": "<UTC>"}``; the token is appended to the URL of every file of that container. A subscription key, where
one is held, goes along as ``Ocp-Apim-Subscription-Key``; ``PC_SDK_SUBSCRIPTION_KEY`` is where Microsoft's own package
looks for it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

from rs_embed.core.errors import ProviderError
from rs_embed.providers.memo import Memo
from rs_embed.providers.services import Signing
from rs_embed.providers.sessions import TIMEOUT, open_session, trouble

__all__ = ["KEY", "Signer"]

KEY = "PC_SDK_SUBSCRIPTION_KEY"
"""Environment variable of the subscription key."""
MARGIN = 120.0
"""Seconds before its end when a token counts as expired: a read that begins with it must also end."""


@dataclass(frozen=True)
class _Token:
    query: str
    expiry: datetime

    def lifetime(self) -> float:
        """Seconds for which it may still be used."""
        return (self.expiry - datetime.now(UTC)).total_seconds() - MARGIN


class Signer:
    """Signs the URLs of one service.

    Parameters
    ----------
    service
        Name for messages.
    signing
        Endpoint, and which URLs need a token.
    """

    def __init__(self, service: str, signing: Signing) -> None:
        self._service, self._signing = service, signing
        self._blobs = re.compile(signing.blobs)
        self._tokens: Memo[_Token] = Memo(256)
        self._session = open_session()

    def sign(self, url: str) -> str:
        """Return ``url`` with a token that is good for a while; as it is where it needs none.

        Raises
        ------
        ProviderError
            If the endpoint refuses or cannot be reached.
        """
        container = self._container(url)
        if container is None:
            return url
        token = self._tokens.get(container, lambda: self._fetch(*container), lifetime=_Token.lifetime)
        return f"{url}{'&' if '?' in url else '?'}{token.query}"

    def renew(self, url: str) -> str:
        """Return ``url`` with a new token: the last one was refused before its time."""
        container = self._container(url)
        if container is not None:
            self._tokens.forget(container)
        return self.sign(url)

    def _container(self, url: str) -> tuple[str, str] | None:
        found = self._blobs.match(url)
        return None if found is None or re.search(r"[?&]sig=", url) else (found["account"], found["container"])

    def _fetch(self, account: str, container: str) -> _Token:
        what = f"{self._service}: the token for its files in {account}/{container}"
        key = os.environ.get(KEY)
        remedy = (
            "choose another backend"
            if key
            else f"choose another backend, or set {KEY} where the collection is only for holders of a key"
        )
        try:
            answer = self._session.get(
                f"{self._signing.endpoint}/{account}/{container}",
                headers={"Ocp-Apim-Subscription-Key": key} if key else {},
                timeout=TIMEOUT,
            )
            if not answer.ok:
                raise trouble(what, answer.status_code, None, remedy=remedy)
            return _parse(answer.json())
        except requests.exceptions.JSONDecodeError as error:
            raise trouble(what, None, ValueError(str(error)), remedy=remedy) from error
        except (requests.exceptions.RequestException, OSError) as error:
            raise trouble(what, None, error, remedy=remedy) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError(f"{what} is not one: the endpoint has changed ({error!r}); {remedy}") from error


def _parse(said: Any) -> _Token:
    """A token from the endpoint's answer."""
    expiry = datetime.fromisoformat(str(said["msft:expiry"]))
    return _Token(str(said["token"]).lstrip("?"), expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC))
