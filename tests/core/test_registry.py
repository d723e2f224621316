"""The catalogue: names, aliases, the models of others, and what a wrong name is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from importlib import metadata

import pytest

from rs_embed import ModelError, describe_model, list_models
from rs_embed.core import registry
from rs_embed.core.registry import broken_plugins, get_spec, register

RCF = get_spec("rcf")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Each test leaves the catalogue of the process as it was."""
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)
    registry._found.cache_clear()


def test_the_models_of_this_version_are_there() -> None:
    assert {"galileo", "imagestats", "rcf", "remoteclip"} <= set(list_models())
    assert list_models() == sorted(list_models())
    assert "remoteclip_s2rgb" in list_models(include_aliases=True)
    assert "remoteclip_s2rgb" not in list_models()


@pytest.mark.parametrize("name", ["remoteclip_s2rgb", " RemoteCLIP ", "REMOTECLIP_S2RGB"])
def test_aliases_cases_and_blanks_do_not_matter(name: str) -> None:
    assert get_spec(name).name == "remoteclip"
    assert describe_model(name)["model"] == "remoteclip"


def test_no_name_is_taken_twice() -> None:
    names = [n.lower() for m in list_models() for n in (get_spec(m).name, *get_spec(m).aliases)]
    assert len(names) == len(set(names))


def test_an_unknown_name_is_told_what_is_close() -> None:
    with pytest.raises(ModelError, match=r"Unknown model 'galilео2'.*Available: ") as caught:
        get_spec("galilео2")  # two of its letters are Cyrillic
    assert "galileo" in str(caught.value)
    with pytest.raises(ModelError, match="did you mean 'remoteclip'"):
        get_spec("remotclip")
    with pytest.raises(ModelError, match="None"):
        get_spec(None)  # type: ignore[arg-type]


def test_registering_adds_and_replaces_on_demand() -> None:
    mine = dataclasses.replace(RCF, name="mine", aliases=("my_alias",))
    register(mine)
    assert "mine" in list_models() and get_spec("MY_ALIAS") is mine
    for clash in (mine, dataclasses.replace(mine, name="rcf", aliases=()), dataclasses.replace(mine, name="x")):
        with pytest.raises(ModelError, match="exists already; pass replace=True"):
            register(clash)
    better = dataclasses.replace(RCF, title="better")
    register(better, replace=True)
    assert get_spec("rcf") is better


class Point:
    """An installed package's entry point; the real ones are read from files of installed packages."""

    def __init__(self, name: str, loaded: object) -> None:
        self.name, self.loaded = name, loaded

    def load(self) -> object:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def test_plugins_are_found_and_a_broken_one_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # importlib.metadata is the seam to what is installed; installing two packages for this test would be slower.
    points = [
        Point("good", dataclasses.replace(RCF, name="good", aliases=())),
        Point("many", [dataclasses.replace(RCF, name=n, aliases=()) for n in ("one", "two")]),
        Point("bad", ImportError("no module named torchgeo")),
        Point("worse", 3),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == "rs_embed.models" else [])
    registry._found.cache_clear()
    assert {"good", "one", "two", "rcf"} <= set(list_models())
    assert get_spec("two").name == "two"
    assert set(broken_plugins()) == {"bad", "worse"}
    with pytest.raises(ModelError, match="torchgeo"):
        get_spec("bad")


@pytest.mark.parametrize("model", list_models(include_aliases=True))
def test_every_model_describes_itself_in_json(model: str) -> None:
    facts = describe_model(model)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["type"] in ("on_the_fly", "precomputed")
    assert facts["output"] and facts["pooled"] and facts["citation"].lstrip().startswith("@")
    assert facts["license"]["code"] and facts["license"]["weights"]
    for item in facts["inputs"].values():
        assert item["bands"] and item["frames"]["kind"] and item["frames"]["missing"]
    for variant in facts["variants"].values():
        assert variant["dims"]["pooled"] > 0
        checkpoint = variant["checkpoint"]
        if checkpoint is not None:
            assert checkpoint["pin"] == ("pinned" if checkpoint["sha256"] or checkpoint["revision"] else "unpinned")
            assert checkpoint["repository"] or checkpoint["url"]
    for option in facts["model_config"].values():
        assert {"type", "default", "description"} <= set(option)
