"""Whether there is a login to Earth Engine, and of which project: files and environment, without Google's libraries."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs_embed.core.errors import ProviderError

__all__ = ["Login", "choose_project", "find_login", "missing_login", "read_key"]

KEYS = ("EARTHENGINE_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS")
"""Variables with the path of a file of credentials, or its content."""
PROJECTS = ("EARTHENGINE_PROJECT", "GOOGLE_CLOUD_PROJECT")
INSTALL = 'pip install "rs-embed[gee]"'
_GCLOUD = "gcloud auth application-default login"
_PROJECT = re.compile(r"[a-z0-9]([a-z0-9.:-]{0,98}[a-z0-9])?", re.IGNORECASE)
"""An id, of a domain's project with a colon and dots, or a number."""
_MACHINE = Path("/sys/class/dmi/id/product_name")
_ON_GOOGLE = ("K_SERVICE", "GCE_METADATA_HOST", "COLAB_RELEASE_TAG")


@dataclass(frozen=True)
class Login:
    """Where credentials come from."""

    told_by: str
    """The variable or command that they are from, for messages."""
    key: Mapping[str, Any] | None = field(repr=False)
    """Content of the file; None: the machine has them (application-default credentials of Google's own machines)."""
    project: str
    """Google Cloud project that requests are counted on."""

    @property
    def is_default(self) -> bool:
        """Whether Google's own search for application-default credentials finds the same."""
        return self.key is None or self.told_by in (KEYS[1], _GCLOUD)

    def fingerprint(self) -> str:
        """Return what changes with the login, and tells nothing of it."""
        content = json.dumps([self.told_by, dict(self.key or {})], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()


def missing_login(call: str | None) -> ProviderError:
    """Return the error of a missing login, with the same call on open imagery."""
    again = f"The same without an account:\n    {call}" if call else 'Without an account: backend="auto".'
    return ProviderError(
        "backend='gee' needs a login to Google Earth Engine, and none was found: install earthengine-api "
        f"(`{INSTALL}`) and run `earthengine authenticate`, then name your project with `earthengine set_project`. "
        f"{again}"
    )


def find_login(project: str | None = None, *, key: str | Path | Mapping[str, Any] | None = None) -> Login | None:
    """Return the login that this machine has, or None; nothing is asked of a network.

    Looked for are, in this order: ``key``, the variables EARTHENGINE_TOKEN and GOOGLE_APPLICATION_CREDENTIALS (a path
    or JSON), what ``earthengine authenticate`` wrote, what ``gcloud auth application-default login`` wrote, and the
    account of a machine of Google's.

    Parameters
    ----------
    project
        Google Cloud project; None: that of EARTHENGINE_PROJECT, GOOGLE_CLOUD_PROJECT or the login itself.
    key
        A service account: the path of its JSON file, the JSON, or its content.

    Raises
    ------
    ProviderError
        If a file that is named cannot be read, or no project is named anywhere.
    """
    found = _found(key)
    if found is None:
        return None
    told_by, content = found
    return Login(told_by, content, choose_project(project, content, told_by))


def choose_project(project: str | None, own: Mapping[str, Any] | None = None, told_by: str = "credentials") -> str:
    """Return the project that requests are counted on: the one named, of the environment, or of the login.

    Parameters
    ----------
    project
        As the user names it; None: it is looked for.
    own
        Content of the login's file.
    told_by
        Where the login is from, for messages.

    Raises
    ------
    ProviderError
        If there is none, or it cannot be one.
    """
    told = own or {}
    named = (os.environ.get(name, "").strip() for name in PROJECTS)
    places = (*named, *(told.get(name) for name in ("project", "quota_project_id", "project_id")))
    chosen = next(filter(None, places), None) if project is None else project
    if chosen is None:
        raise ProviderError(
            f"backend='gee': a login was found ({told_by}) but no Google Cloud project to count requests on; name one "
            'with backend="gee:my-project", EARTHENGINE_PROJECT or `earthengine set_project my-project` '
            "(https://developers.google.com/earth-engine/guides/access says how to get one), or use backend='auto'"
        )
    found = str(chosen).strip()
    if not _PROJECT.fullmatch(found):
        raise ProviderError(
            f"backend='gee': {found!r} is no id of a Google Cloud project (letters, digits and hyphens); name one with "
            'backend="gee:my-project" or EARTHENGINE_PROJECT; https://console.cloud.google.com lists yours'
        )
    return found


def _found(key: str | Path | Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any] | None] | None:
    """The first of the places that has something, with its content."""
    if key is not None:
        return "the key that was given", read_key(key, "the key")
    for name in KEYS:
        if os.environ.get(name):
            return name, read_key(os.environ[name], name)
    home = Path(os.path.expanduser("~")) / ".config"  # unlike Path.home, also without a home
    gcloud = Path(os.environ.get("CLOUDSDK_CONFIG") or home / "gcloud") / "application_default_credentials.json"
    for command, file in (
        ("earthengine authenticate", home / "earthengine" / "credentials"),
        (_GCLOUD, gcloud),
    ):
        if file.is_file():
            return command, read_key(file, f"`{command}`")
    return ("this machine of Google's", None) if _on_google() else None


def _on_google() -> bool:
    """Whether this is a machine of Google's, as its firmware says: asking its metadata server would wait elsewhere."""
    try:
        firmware = _MACHINE.read_text(encoding="utf-8").startswith("Google")
    except OSError:
        firmware = False
    return firmware or any(os.environ.get(name) for name in _ON_GOOGLE)


def read_key(key: str | Path | Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """Return the content of a file of credentials, given as a path, as JSON or as it is.

    Raises
    ------
    ProviderError
        If there is no such file, or it holds no credentials.
    """
    try:
        content = key if isinstance(key, Mapping) else json.loads(_text_of(str(key)))
    except (OSError, ValueError) as error:
        what = "is not JSON" if isinstance(error, ValueError) else f"cannot be read ({error.strerror})"
        raise ProviderError(
            f"backend='gee': {label} names a file of credentials that {what}; download the key of the service account "
            "again, correct the path, or run `earthengine authenticate`"
        ) from error
    if not isinstance(content, Mapping) or not {"refresh_token", "private_key", "type"} & content.keys():
        raise ProviderError(
            f"backend='gee': {label} holds no credentials (neither refresh_token nor private_key); name the JSON key "
            "of a service account, or run `earthengine authenticate`"
        )
    return content


def _text_of(key: str) -> str:
    """The content of a file, or the key itself where it is JSON."""
    if key.lstrip().startswith("{"):
        return key
    return Path(os.path.expanduser(key)).read_text(encoding="utf-8-sig")
