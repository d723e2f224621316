"""Logins to Earth Engine: where they are found, what is said where there is none, and a real token from a real key."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import earth_engine_scenes as painted
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from earth_engine_stub import Broken, EarthEngineStub, error_body, serving
from google.oauth2.credentials import Credentials

from rs_embed import PointBuffer, ProviderError, TemporalSpec, get_embedding
from rs_embed.core.errors import MissingExtraError
from rs_embed.inference.doctor import examine
from rs_embed.inference.estimate import open_for_estimate
from rs_embed.providers.backends import open_provider
from rs_embed.providers.earth_engine import EarthEngineProvider
from rs_embed.providers.earth_engine_login import find_login

USER = {"refresh_token": "1//secret", "client_id": "id", "client_secret": "no-secret", "project": "of-the-login"}


pytestmark = pytest.mark.usefixtures("nowhere")


def write(home: Path, place: str, content: object) -> Path:
    file = home / ".config" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


@pytest.fixture(scope="module")
def key() -> str:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


def account(key: str, url: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": "of-the-account",
        "private_key": key,
        "client_email": "robot@of-the-account.iam.gserviceaccount.com",
        "token_uri": f"{url}/token",
    }


@pytest.fixture
def world(test_data: Path) -> Iterator[EarthEngineStub]:
    made = EarthEngineStub.of(test_data / "earth_engine_rest")
    made.images = painted.optical("COPERNICUS/S2_SR_HARMONIZED", dates=1)
    with serving(made):
        yield made


def load(provider: EarthEngineProvider) -> bool:
    request = painted.request("sentinel-2-l2a", ("B4",))
    (found,) = provider.load(request, [request.geobox])
    return bool(found.valid.any())


@pytest.mark.parametrize("backend", ["gee", "GEE", "gee:my-project"])
@pytest.mark.parametrize("installed", [True, False])
def test_without_a_login_the_same_call_is_printed(
    backend: str, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "ee", None)
    place, time = PointBuffer(11, 48, 100), TemporalSpec.year(2022)
    with pytest.raises(ProviderError, match=r"needs a login.*none was found.*earthengine authenticate") as caught:
        get_embedding("rcf", spatial=place, temporal=time, backend=backend)
    said = str(caught.value)
    assert 'pip install "rs-embed[gee]"' in said and "get_embedding('rcf'" in said and 'backend="auto"' in said


def test_with_a_login_but_without_the_library(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(nowhere, "earthengine/credentials", USER)
    monkeypatch.setitem(sys.modules, "ee", None)
    with pytest.raises(MissingExtraError, match=r'not installed: pip install "rs-embed\[gee\]"'):
        open_provider("gee:another-project-here")


def test_what_earthengine_authenticate_wrote(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(nowhere, "earthengine/credentials", USER)
    found = find_login()
    assert found is not None and found.told_by == "earthengine authenticate" and found.project == "of-the-login"
    assert "secret" not in repr(found) + found.fingerprint()
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-the-cloud")
    assert find_login().project == "of-the-cloud"  # type: ignore[union-attr]
    monkeypatch.setenv("EARTHENGINE_PROJECT", "of-the-engine")
    assert find_login().project == "of-the-engine"  # type: ignore[union-attr]
    assert find_login("named").project == "named"  # type: ignore[union-attr]


def test_the_name_opens_it_once_for_each_project(nowhere: Path) -> None:
    write(nowhere, "earthengine/credentials", USER)
    one, again, other = open_provider("gee"), open_provider(" GEE "), open_provider("gee:other-project")
    assert isinstance(one, EarthEngineProvider) and one is again and other is not one
    assert one.name == "gee" and one.offers("sentinel-2-l2a") and not one.offers("clouds")
    assert open_for_estimate("gee") == (one, ())


def test_a_login_without_a_project(nowhere: Path) -> None:
    write(nowhere, "earthengine/credentials", {k: v for k, v in USER.items() if k != "project"})
    with pytest.raises(
        ProviderError, match=r'no Google Cloud project.*backend="gee:my-project".*set_project'
    ) as caught:
        open_provider("gee")
    assert str(nowhere) not in str(caught.value)
    assert isinstance(open_provider("gee:named-project"), EarthEngineProvider)


@pytest.mark.parametrize("how", ["variable with a path", "variable with JSON", "token", "gcloud", "argument", "path"])
def test_a_service_account_signs_for_a_token(
    how: str, world: EarthEngineStub, key: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = account(key, world.url)
    options: dict[str, object] = {}
    if how == "gcloud":
        write(nowhere, "gcloud/application_default_credentials.json", content)
    elif how == "argument":
        options["key"] = content
    else:
        file = write(nowhere, "account.json", content)
        if how == "path":
            options["key"] = file
        else:
            name = "EARTHENGINE_TOKEN" if how == "token" else "GOOGLE_APPLICATION_CREDENTIALS"
            monkeypatch.setenv(name, str(file) if how == "variable with a path" else json.dumps(content))
    provider = EarthEngineProvider(url=world.url, attempts=1, **options)  # type: ignore[arg-type]
    assert load(provider)
    assert all(path.startswith("/v1/projects/of-the-account/") for path, _, _ in world.requests)


def test_a_variable_comes_before_the_file(nowhere: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(nowhere, "earthengine/credentials", USER)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", json.dumps(account(key, "http://127.0.0.1:9")))
    found = find_login()
    assert found is not None and found.project == "of-the-account"
    assert found.told_by == "GOOGLE_APPLICATION_CREDENTIALS"


def test_an_expired_login(world: EarthEngineStub, key: str) -> None:
    body = json.dumps({"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    world.broken = [Broken("/token", 400, body)]
    with pytest.raises(ProviderError, match=r"expired or was revoked.*earthengine authenticate.*backend='auto'"):
        load(EarthEngineProvider(url=world.url, attempts=1, key=account(key, world.url)))
    stale = EarthEngineProvider("my-project", credentials=Credentials("old"), url=world.url, attempts=1)
    with pytest.raises(ProviderError, match="expired or was revoked"):
        load(stale)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, "oops", "login server does not work now.*try again later"),
        (503, '{"error": "temporarily_unavailable"}', "login server does not work now"),
        (200, "<html>Sign in to the network</html>", "login server did not answer with JSON.*browser"),
        (404, "<html>not found</html>", "login server did not answer with JSON"),
        (200, "{}", "expired or was revoked"),
        (400, '{"error": "invalid_grant", "error_description": "Token has been revoked."}', "expired or was revoked"),
        (401, '{"error": "invalid_client"}', "expired or was revoked"),
    ],
)
def test_a_token_that_does_not_come(world: EarthEngineStub, key: str, status: int, body: str, words: str) -> None:
    world.broken = [Broken("/token", status, body)]
    with pytest.raises(ProviderError, match=words) as caught:
        load(EarthEngineProvider(url=world.url, attempts=1, key=account(key, world.url)))
    assert "backend='auto'" in str(caught.value) and "PRIVATE" not in str(caught.value)
    world.broken = []
    assert load(EarthEngineProvider(url=world.url, attempts=1, key=account(key, world.url)))


def test_a_token_that_ends_midway_is_renewed(world: EarthEngineStub, key: str) -> None:
    provider = EarthEngineProvider(url=world.url, attempts=1, key=account(key, world.url))
    assert load(provider)
    world.broken = [Broken("image:computePixels", 401, error_body(401, "Invalid credentials"), times=1)]
    assert load(provider)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not-there.json", "cannot be read"),
        ("{broken", "is not JSON"),
        ("{}", "holds no credentials"),
        ('{"type": "service_account", "project_id": "p", "private_key": "no"}', "cannot be used"),
    ],
)
def test_credentials_that_are_none(content: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", content)
    with pytest.raises(ProviderError, match=f"GOOGLE_APPLICATION_CREDENTIALS.*{words}") as caught:
        load(open_provider("gee"))  # type: ignore[arg-type]
    assert "earthengine authenticate" in str(caught.value)


@pytest.mark.parametrize(
    ("token", "state", "words"),
    [
        (None, "absent", "no credentials"),
        ({k: v for k, v in USER.items() if k != "project"}, "absent", "no Google Cloud project"),
        ({"nothing": "of use"}, "absent", "holds no credentials"),
        (USER, "ok", r"EARTHENGINE_TOKEN; not tried.*of-the-login"),
    ],
)
def test_the_doctor_says_whether_there_is_one(
    token: dict[str, str] | None, state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token is not None:
        monkeypatch.setenv("EARTHENGINE_TOKEN", json.dumps(token))
    (found,) = (finding for finding in examine(offline=True) if finding.topic == "Earth Engine")
    assert found.state == state and re.search(words, found.said)
    assert "secret" not in found.said + found.remedy


def test_a_machine_without_a_home_has_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os; from rs_embed.providers.earth_engine_login import find_login\n"
        "os.environ.pop('HOME', None); os.setuid(54321)\n"
        "print(find_login())"
    )
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody that the system knows")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "None", done.stderr
