"""Weights: found, downloaded, verified, loaded strictly; and what is said where that cannot be."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from rs_embed.core.encoding import Batch, Features
from rs_embed.core.errors import CheckpointError, MissingExtraError
from rs_embed.core.model_spec import Build, Checkpoint, InputSpec, ModelSpec, Source, Variant, Window
from rs_embed.inference.downloads import file_sha256
from rs_embed.inference.weights import cache_dir, load_weights, place_of, read_checkpoint, require


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(width).float(), requires_grad=False)
        self.layer = nn.Linear(3, width)
        self.norm = nn.BatchNorm2d(width)


class Plain:
    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self, batch: Batch) -> Features:
        raise NotImplementedError

    def head(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors


def strip(state: Mapping[str, Any]) -> dict[str, Any]:
    if not all(name.startswith("enc.") for name in state):
        raise ValueError("names do not begin with 'enc.'")
    return {name.removeprefix("enc."): value for name, value in state.items()}


def model(checkpoint: Checkpoint | None) -> ModelSpec:
    variants = {
        name: Variant(Window(8), {"pooled": width}, config={"width": width}, checkpoint=checkpoint)
        for name, width in {"small": 4, "large": 6}.items()
    }
    return ModelSpec(
        name="toy",
        title="toy",
        inputs={"x": InputSpec((Source("sentinel-1"),), ("VV", "VH"))},
        variants=variants,
        encoder=lambda build: Plain(Net(**build.variant.config)),
        pooled="cells",
        pooled_says="",
        citation="",
        licence={},
        source="",
    )


def load(checkpoint: Checkpoint | None, file: Path | None = None, variant: str = "small") -> tuple[Net, dict[str, Any]]:
    spec = model(checkpoint)
    build = Build(spec.variants[variant], {}, {}, {})
    encoder = spec.encoder(build)
    return encoder.net, load_weights(encoder, spec, variant, build, checkpoint=file)


def state(width: int = 4, prefix: str = "") -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {prefix + name: torch.rand_like(value.float()) for name, value in Net(width).state_dict().items()}


def saved(path: Path, content: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state() if content is None else content, path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(folder))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which a server on loopback gives it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_a_file_of_the_users_own_is_loaded(tmp_path: Path, wrapper: str | None) -> None:
    content = state() if wrapper is None else {wrapper: state(), "epoch": 3}
    file = saved(tmp_path / "own.pt", content)
    net, provenance = load(None, file)
    for name, value in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state()[name])
    assert not net.training
    wanted = {"repository": None, "revision": None, "file": "own.pt", "sha256": digest(file), "pinned": False}
    assert provenance == wanted


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.bin")
    net, _ = load(None, tmp_path / "weights.bin")
    assert torch.equal(net.layer.weight, state()["layer.weight"])


def test_the_old_format_of_torch_is_read(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(tmp_path / "old.pt")) == set(state())


def test_names_are_converted(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pt", state(prefix="enc."))
    net, provenance = load(Checkpoint("a.pt", sha256=digest(file), convert=strip), file)
    assert torch.equal(net.layer.weight, state()["layer.weight"])
    assert provenance["pinned"], "it is the published file, by its hash"
    with pytest.raises(CheckpointError, match=r"b\.pt is not a checkpoint of toy small: names do not begin"):
        load(Checkpoint("a.pt", convert=strip), saved(tmp_path / "b.pt"))


def test_what_the_net_builds_itself_may_be_missing(tmp_path: Path) -> None:
    short = {name: value for name, value in state().items() if name != "table"}
    file = saved(tmp_path / "a.pt", short)
    net, _ = load(Checkpoint("a.pt", may_miss=("tab*",)), file)
    assert net.table.tolist() == [0, 1, 2, 3]
    with pytest.raises(CheckpointError, match="'table' is missing"):
        load(Checkpoint("a.pt"), file)


def renamed(content: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    return {new if name == old else name: value for name, value in content.items()}


FAULTS: dict[str, tuple[Any, str]] = {
    "missing": (renamed(state(), "layer.weight", "layer.kernel"), r"'layer\.weight' is missing \(and 1 more\)"),
    "misshapen": (state() | {"layer.bias": torch.zeros(5)}, r"'layer\.bias' has the shape \(5,\), not \(4,\)"),
    "unexpected": (state() | {"head.weight": torch.zeros(5)}, r"'head\.weight' is not one of the net's"),
    "another variant": (state(6), r"the shape \(6,\), not \(4,\).*it fits the variant 'large': pass variant='large'"),
    "no tensors": (dict.fromkeys(state(), 1.0), "is a float, not a tensor"),
    "a list": ([1, 2], "holds a list, not a state dict"),
    "code": ({"layer.weight": Plain(None)}, "cannot be read as a checkpoint"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_content_is_refused(tmp_path: Path, fault: str) -> None:
    content, message = FAULTS[fault]
    with pytest.raises(CheckpointError, match=message) as caught:
        load(Checkpoint("a.pt"), saved(tmp_path / "own.pt", content))
    assert "own.pt" in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_a_truncated_or_damaged_file_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "whole"
    if kind == "safetensors":
        save_file(state(), file)
    else:
        torch.save(state(), file, _use_new_zipfile_serialization=kind == "zip")
    content = file.read_bytes()
    cut = tmp_path / "cut.pt"
    for end in [0, 1, 8, 9, 60, len(content) // 3, len(content) // 2, len(content) * 9 // 10, len(content) - 1]:
        cut.write_bytes(content[:end])
        with pytest.raises(CheckpointError, match=r"cut\.pt"):
            load(Checkpoint("a.pt"), cut)


def test_torch_reads_damaged_numbers_and_we_do_not(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pt")
    content = bytearray(file.read_bytes())
    at = content.index(state()["layer.weight"].numpy().tobytes())
    content[at + 1] ^= 1
    file.write_bytes(content)
    assert not torch.equal(torch.load(file, weights_only=True)["layer.weight"], state()["layer.weight"])
    with pytest.raises(CheckpointError, match=r"a\.pt .*the checksum of .* is another"):
        load(Checkpoint("a.pt"), file)


@pytest.mark.parametrize("content", [b"<html>404: not found</html>", b"\x89PNG\r\n", b"PK\x03\x04 no", bytes(1000)])
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"page\.pt .*truncated, damaged or something else"):
        load(Checkpoint("a.pt"), tmp_path / "page.pt")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt' of toy small is not a file"):
        load(Checkpoint("a.pt"), tmp_path / "nowhere.pt")


def test_a_model_without_published_weights_says_what_to_pass() -> None:
    with pytest.raises(CheckpointError, match="pass checkpoint="):
        load(None)


def test_a_url_is_downloaded_once_and_required_ever_after(served: tuple[Path, str], cache: Path) -> None:
    folder, url = served
    file = saved(folder / "a.pt")
    published = Checkpoint("a.pt", url=f"{url}/a.pt")
    _, provenance = load(published)
    first = digest(file)
    wanted = {"repository": f"{url}/a.pt", "revision": None, "file": "a.pt", "sha256": first, "pinned": False}
    assert provenance == wanted
    place = place_of(published)
    assert place.with_name("a.pt.sha256").read_text() == first
    assert place.is_relative_to(cache) and cache_dir() == cache
    file.unlink()
    assert load(published)[1] == wanted, "the second time needs no network"
    place.unlink()
    saved(folder / "a.pt", state(6))
    with pytest.raises(CheckpointError, match=f"the first download has {first}.*has changed"):
        load(published)
    assert not place.exists(), "a file that is not the right one is not kept"


def test_a_known_hash_is_required(served: tuple[Path, str]) -> None:
    folder, url = served
    file = saved(folder / "a.pt")
    right = Checkpoint("a.pt", url=f"{url}/a.pt", sha256=digest(file))
    assert load(right)[1]["pinned"]
    assert not place_of(right).with_name("a.pt.sha256").exists()
    place_of(right).write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"the catalogue has .* delete .* to download it again"):
        load(right)


def test_what_a_server_lacks_is_said(served: tuple[Path, str]) -> None:
    published = Checkpoint("a.pt", url=f"{served[1]}/a.pt")
    with pytest.raises(CheckpointError, match=r"HTTPError: HTTP Error 404.*Put a\.pt from http.* to .*a\.pt"):
        load(published)
    assert not list(place_of(published).parent.iterdir())


class Cut(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_half_a_download_is_not_kept() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Cut) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        published = Checkpoint("a.pt", url=f"http://127.0.0.1:{server.server_port}/a.pt")
        with pytest.raises(CheckpointError, match="4 of 1000 bytes"):
            load(published)
        server.shutdown()
    assert not list(place_of(published).parent.iterdir())


def test_a_file_put_into_its_place_by_hand_is_taken() -> None:
    published = Checkpoint("models/a.pt", repository="someone/toy", revision="abc")
    file = saved(place_of(published))
    assert load(published)[1] == {
        "repository": "someone/toy",
        "revision": "abc",
        "file": "models/a.pt",
        "sha256": digest(file),
        "pinned": True,
    }


def test_a_file_is_hashed_again_only_where_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    first, stamp = file_sha256(file), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file_sha256(file) == first, "size and time are the same: not read"
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert file_sha256(file) == digest(file) != first


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"").hexdigest()
    with pytest.raises(CheckpointError, match="set RS_EMBED_CACHE_DIR"):
        load(Checkpoint("a.pt", url="http://127.0.0.1:9/a.pt"))


def test_a_missing_extra_says_how_to_install_it() -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "rs-embed\[torch\]"'):
        require("no_such_module_anywhere", why="this test")


LOCATE = """
    import json, sys
    from rs_embed.core.errors import CheckpointError
    from rs_embed.core.model_spec import Checkpoint
    from rs_embed.inference.downloads import locate
    published = Checkpoint("models/a.pt", repository="someone/toy", revision={revision!r}, sha256={sha256!r})
    try:
        print(json.dumps(str(locate(published, who="toy small"))))
    except CheckpointError as error:
        print(json.dumps({{"error": str(error)}}))
"""


def locate(revision: str | None, sha256: str | None, **environment: str) -> Any:
    """What `locate` returns in an interpreter of these settings, which huggingface_hub reads when imported."""
    code = textwrap.dedent(LOCATE.format(revision=revision, sha256=sha256))
    named = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"} | environment
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=named, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as one file needs."""

    content = b"weights"
    commit = "bf1d8a3ccf2ddbf7c875705e46373bfe542bce38"

    def do_HEAD(self) -> None:
        known = self.path in (f"/someone/toy/resolve/{at}/models/a.pt" for at in (self.commit, "main"))
        self.send_response(200 if known else 404)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", str(len(self.content) if known else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("revision", [Hub.commit, None])
def test_the_hub_is_asked_at_the_pinned_revision(hub: str, cache: Path, revision: str | None) -> None:
    found = Path(locate(revision, None, HF_ENDPOINT=hub))
    assert found.read_bytes() == Hub.content
    assert found.is_relative_to(cache / "weights" / "someone--toy" / (revision or "unpinned"))
    assert found.with_name("a.pt.sha256").read_text() == digest(found)


def test_another_file_on_the_hub_is_refused(hub: str) -> None:
    assert "the catalogue has 00" in locate(Hub.commit, "00", HF_ENDPOINT=hub)["error"]
    assert "404" in locate("0" * 40, None, HF_ENDPOINT=hub)["error"]


@pytest.mark.parametrize(
    ("environment", "why"),
    [({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"), ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "does not answer")],
)
def test_without_network_the_error_comes_at_once_and_says_all(
    environment: dict[str, str], why: str, cache: Path
) -> None:
    start = time.monotonic()
    said = locate(Hub.commit, None, **environment)["error"]
    assert time.monotonic() - start < 10
    place = cache / "weights" / "someone--toy" / Hub.commit / "models" / "a.pt"
    for part in (why, "toy small", f"huggingface.co/someone/toy at revision {Hub.commit}", str(place), "checkpoint="):
        assert part in said


def test_a_file_in_the_hubs_own_cache_is_taken(tmp_path: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--someone--toy" / "snapshots" / Hub.commit / "models" / "a.pt"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(Hub.content)
    right, offline = hashlib.sha256(Hub.content).hexdigest(), {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    assert locate(Hub.commit, right, **offline) == str(snapshot)
    assert "not on this machine" in locate(Hub.commit, "00", **offline)["error"]
