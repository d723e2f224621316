"""What is installed, reachable and in order on this machine, and what to do about the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from importlib import metadata
from typing import Literal

import numpy as np

from rs_embed import __version__
from rs_embed.core.errors import ProviderError, RSEmbedError, SpecError
from rs_embed.core.registry import broken_plugins
from rs_embed.core.specs import PointBuffer, TemporalSpec
from rs_embed.inference.cached import cached_weights, folder_size
from rs_embed.inference.downloads import cache_dir
from rs_embed.providers.earth_engine_login import find_login

__all__ = ["SERVICES", "Finding", "examine"]

State = Literal["ok", "absent", "broken"]

TIMEOUT_S = 5.0

SERVICES = {
    "Earth Search": "https://earth-search.aws.element84.com/v1",
    "Planetary Computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
}
"""Beside Hugging Face, whose address ``HF_ENDPOINT`` may change."""

PLAIN = (
    "RS_EMBED_CACHE_DIR",
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
)
SECRET = ("HF_TOKEN", "EARTHENGINE_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS")
"""Of these it is only said whether they are set."""

_BROKEN = (ImportError, AttributeError, TypeError, ValueError, RuntimeError, OSError, LookupError, RSEmbedError)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    name: str
    state: State
    """``absent`` is something that not every user needs; only ``broken`` fails."""
    said: str
    remedy: str = ""


def examine(*, offline: bool = False, services: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Look at everything, one finding after the other.

    Parameters
    ----------
    offline
        Ask no server.
    services
        ``{name: URL}`` instead of `SERVICES` and Hugging Face.
    """
    yield Finding("software", "rs-embed", "ok", __version__)
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("software", "python", "ok", f"{platform.python_version()} on {system}")
    yield from _packages()
    yield _processor()
    if not offline:
        yield from _reachable(_services() if services is None else services)
    yield _earth_engine()
    yield from _cache()
    yield from _plugins()
    yield from _environment()
    yield _self_test()


def _packages() -> Iterator[Finding]:
    """What the package declares: its own requirements have to be there, those of an extra may be."""
    try:
        declared = metadata.requires("rs-embed") or []
    except metadata.PackageNotFoundError:
        yield Finding("software", "packages", "absent", "rs-embed runs from its sources", "pip install rs-embed")
        return
    for text in declared:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"""extra\s*==\s*['"](.+?)['"]""", marker)
        if extra is None:
            yield _package(requirement, None)
        elif extra[1] not in ("all", "dev"):
            yield _package(requirement, extra[1])


def _package(requirement: str, extra: str | None) -> Finding:
    """Compare what is installed with a requirement such as ``numpy>=2.0``."""
    name = re.match(r"[\w.-]+", requirement.strip())
    assert name is not None
    topic = "software" if extra is None else f"extra {extra}"
    remedy = f'pip install "rs-embed[{extra}]"' if extra else "pip install --upgrade rs-embed"
    least = re.search(r">=\s*([\d.]+)", requirement)
    try:
        version = metadata.version(name[0])
    except metadata.PackageNotFoundError:
        state: State = "absent" if extra else "broken"
        return Finding(topic, name[0], state, "not installed", remedy)
    if least and _numbers(version) < _numbers(least[1]):
        return Finding(topic, name[0], "broken", f"{version} is older than {least[1]}", remedy)
    return Finding(topic, name[0], "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _processor() -> Finding:
    """Say where nets run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if importlib.util.find_spec("torch") is None:
        return Finding("hardware", "GPU", "absent", f"unknown without torch; {cores} processor cores")
    try:
        import torch

        if torch.cuda.is_available():
            cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
            said = ", ".join(f"{card.name} ({card.total_memory / 1e9:.0f} GB)" for card in cards)
            return Finding("hardware", "GPU", "ok", said)
        if torch.backends.mps.is_available():
            return Finding("hardware", "GPU", "ok", "Apple's; pass --device mps")
    except _BROKEN as error:
        return Finding("hardware", "GPU", "broken", f"torch fails: {_one_line(error)}", 'pip install "rs-embed[torch]"')
    built = "this torch is built for the CPU only" if torch.version.cuda is None else "CUDA finds none"
    return Finding("hardware", "GPU", "absent", f"none ({built}); models run on {cores} processor cores")


def _services() -> dict[str, str]:
    return {"Hugging Face": os.environ.get("HF_ENDPOINT") or "https://huggingface.co", **SERVICES}


def _reachable(services: Mapping[str, str]) -> Iterator[Finding]:
    with ThreadPoolExecutor(max(1, len(services))) as pool:
        yield from pool.map(_service, services, services.values())


def _service(name: str, url: str) -> Finding:
    """Ask a server for its front page; any answer is one."""
    shown = _without_secrets(url)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S):
            return Finding("network", name, "ok", f"{shown} answers")
    except urllib.error.HTTPError as error:
        return Finding("network", name, "ok", f"{shown} answers ({error.code})")
    except (OSError, HTTPException, ValueError) as error:
        said = _one_line(getattr(error, "reason", error))
        remedy = "behind a proxy, set HTTPS_PROXY; without a network, pull weights elsewhere and name a folder"
        return Finding("network", name, "absent", f"{shown} does not answer: {said}", remedy)


def _earth_engine() -> Finding:
    """Say whether there is a login, without using it."""
    if importlib.util.find_spec("ee") is None:
        remedy = "needed for backend gee only: pip install earthengine-api"
        return Finding("Earth Engine", "login", "absent", "earthengine-api is not installed", remedy)
    try:
        login = find_login()
    except ProviderError as error:
        said, _, remedy = str(error).removeprefix("backend='gee': ").partition("; ")
        return Finding("Earth Engine", "login", "absent", said, remedy)
    if login is None:
        return Finding("Earth Engine", "login", "absent", "no credentials", "earthengine authenticate")
    said = f"credentials found ({login.told_by}; not tried), project {login.project}"
    return Finding("Earth Engine", "login", "ok", said)


def _cache() -> Iterator[Finding]:
    remedy = "set RS_EMBED_CACHE_DIR to a folder that can be written"
    try:
        folder = cache_dir()
    except SpecError as error:
        yield Finding("cache", "folder", "broken", str(error), remedy)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        size = folder_size(folder)
    except OSError as error:
        yield Finding("cache", "folder", "broken", f"{folder} cannot be written: {error.strerror}", remedy)
        return
    yield Finding("cache", "folder", "ok", f"{folder}, {size / 1e6:.1f} MB")
    weights = cached_weights()
    for model, variant, _, count in weights:
        yield Finding("cache", f"{model} {variant}", "ok", f"weights, {count / 1e6:.1f} MB")
    if not weights:
        yield Finding("cache", "weights", "absent", "none yet", "rs-embed pull MODEL")


def _plugins() -> Iterator[Finding]:
    for name, reason in broken_plugins().items():
        yield Finding("plug-ins", name, "broken", reason, "mend or uninstall the package that declares it")


def _environment() -> Iterator[Finding]:
    for name in PLAIN:
        value = os.environ.get(name) or os.environ.get(name.lower())
        if value:
            yield Finding("environment", name, "ok", _without_secrets(value))
    for name in SECRET:
        if os.environ.get(name):
            yield Finding("environment", name, "ok", "set (value not shown)")


def _without_secrets(value: str) -> str:
    """Return an address without user, password and query."""
    if "@" not in value and "://" not in value:
        return value
    scheme, mark, rest = value.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}"


def _one_line(error: object) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__


def _self_test() -> Finding:
    """Embed a painted place and compare its means with the imagery's own."""
    from rs_embed.core.specs import SensorSpec
    from rs_embed.inference.calls import embed_regions
    from rs_embed.inference.inspect import inspect_patch
    from rs_embed.inference.session import open_session
    from rs_embed.providers.synthetic import SyntheticProvider

    try:
        provider, span = SyntheticProvider(), TemporalSpec.parse("2022-07")
        place = PointBuffer(11.457, 47.442, 100)
        sensor = SensorSpec("sentinel-2-l2a", ("B2", "B8"))
        session = open_session("imagestats", provider, sensor=sensor)
        (found,) = embed_regions(session, provider, [place], span, "raise", False, single=True)
        seen = inspect_patch(provider, place, span, sensor, name="test", value_range=None, return_array=False)
        wanted = seen["report"]["band_mean"]
        if not np.allclose(found.values()[: len(wanted)], wanted, rtol=0.05):
            return Finding("self-test", "imagestats", "broken", f"means {found.values()[:2]}, not {wanted}")
    except _BROKEN as error:
        return Finding("self-test", "imagestats", "broken", f"{type(error).__name__}: {_one_line(error)}")
    return Finding("self-test", "imagestats", "ok", f"a painted place became a vector of {found.dim} numbers")
