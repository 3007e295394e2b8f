"""The page of a latent space: what its server answers, whom it refuses, and the file that needs none."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from ppl_vae import InputError
from ppl_vae.cli import explore as verb
from ppl_vae.cli.command import call, read_options
from ppl_vae.explore import ExploredSpace, Explorer, Views, write_page
from ppl_vae.explore.server import make_app
from tests.helpers.uses import open_case

TOKEN = "a-token-of-this-test"
HEADERS = {"X-Token": TOKEN}


def open_page(name: str, folder: Path, image_shape: tuple[int, ...] | None = None) -> Explorer:
    """Return the content of the page of a fitted program of the law of the uses."""
    run = open_case(name, folder)
    object.__setattr__(run.data, "image_shape", image_shape or run.data.image_shape)
    space = ExploredSpace(run.vi, run.data.test)
    return Explorer(space, Views(space, run.data), f"{name} <&>", [f"row {row}" for row in range(21)], "test")


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """The page of a conditional VAE of images of two by three pixels."""
    return open_page("cvae", tmp_path_factory.mktemp("page") / "run", (2, 3))


@pytest.fixture(scope="module")
def client(explorer: Explorer) -> TestClient:
    return TestClient(make_app(explorer, TOKEN), base_url="http://127.0.0.1:8000")


def content_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script id="content" type="application/json">(.*?)</script>', page)
    return json.loads(text)


def test_the_page_has_the_data_and_needs_no_other_place(client: TestClient, explorer: Explorer) -> None:
    answer = client.get("/", params={"token": TOKEN})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.findall(r"(?:src|href|action)=[\"'](?!data:,)|@import|url\(", answer.text)
    assert set(re.findall(r"https?://[^\"' ]+", answer.text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in answer.text
    assert "cvae <&>" not in answer.text
    content = content_of(answer.text)
    assert content["title"] == "cvae <&>"
    assert content["conditions"] == [{"name": "y", "kind": "choice", "values": [0, 1, 2, 3]}]
    assert [row["name"] for row in content["coordinates"]] == list(explorer.space.names)
    np.testing.assert_allclose(np.transpose(content["places"]), explorer.space.places, atol=1e-3)
    assert content["answers"] is None


def test_a_point_is_answered_with_an_image_and_its_neighbours(client: TestClient, explorer: Explorer) -> None:
    first, second = explorer.space.names
    images = []
    for conditions in ({}, {"y": 3}):
        request = {"row": 2, "point": {first: 0.5, second: -1.0}, "conditions": conditions}
        answer = client.post("/decode", headers=HEADERS, json=request)
        assert answer.status_code == 200
        decoded = explorer.space.decode([request["point"]], 2, conditions)
        (view,) = answer.json()["views"]
        assert view["shape"] == [2, 3]
        pixels = np.frombuffer(base64.b64decode(view["bytes"]), np.uint8)
        np.testing.assert_allclose(pixels / 254, decoded.means["x"][0], atol=0.51 / 254)
        assert [near["row"] for near in answer.json()["nearest"]] == decoded.nearest[0].tolist()
        images.append(pixels)
    assert (images[0] != images[1]).any()
    datum = client.get("/datum/2", headers=HEADERS).json()
    assert datum["conditions"] == {"y": int(explorer.space.arrays["y"][2])}
    pixels = np.frombuffer(base64.b64decode(datum["views"][0]["bytes"]), np.uint8)
    np.testing.assert_array_equal(pixels, 254 * explorer.space.arrays["x"][2])
    assert np.shape(datum["posterior"]) == np.shape(datum["prior"]) == (2, 256)


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/", {}, 403),
        ("/", {"params": {"token": "another"}}, 403),
        ("/datum/0", {}, 403),
        ("/datum/0", {"headers": {"X-Token": TOKEN[:-1]}}, 403),
        ("/datum/0", {"headers": {**HEADERS, "Host": "rebound.example"}}, 400),
        ("/", {"params": {"token": TOKEN}, "headers": {"Host": "127.0.0.1.rebound.example"}}, 400),
        ("/", {"params": {"token": TOKEN}, "headers": {"Host": "localhost:8000"}}, 200),
        ("/datum/21", {"headers": HEADERS}, 400),
        ("/page.html", {"headers": HEADERS}, 404),
    ],
)
def test_only_this_machine_with_the_token_is_answered(
    client: TestClient, path: str, options: dict[str, Any], status: int
) -> None:
    answer = client.get(path, **options)
    assert answer.status_code == status
    assert status == 200 or "coordinates" not in answer.text
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"row": "a"}', "expected a request such as"),
        (b'{"point": {"z[9]": 1}}', "no latent dimension"),
        (b'{"point": {"z[0]": "1"}}', "expected a finite number"),
        (b'{"point": {"z[0]": NaN}}', "expected a finite number"),
        (b'{"conditions": {"y": 4}}', "has the values 0 to 3, and no 4"),
        (b'{"conditions": {"x": 4}}', "no condition 'x'"),
        (b" " * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_request_that_cannot_be_is_answered_with_a_line(client: TestClient, body: bytes, reason: str) -> None:
    answer = client.post("/decode", headers=HEADERS, content=body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert client.post("/decode", content=body).status_code == 403


def test_a_table_has_labels_and_their_probabilities(tmp_path: Path) -> None:
    explorer = open_page("table_vae", tmp_path / "run")
    answer = explorer.decode({"row": 1, "point": {}})
    (view,), decoded = answer["views"], explorer.space.decode([{}], 1)
    assert view["kind"] == "table"
    shares = [share for _, _, share in view["rows"] if share is not None]
    np.testing.assert_allclose(shares, decoded.shares["x"][0].max(-1), atol=1e-3)
    assert all(0 < share <= 1 for share in shares)
    assert [share is not None for _, _, share in view["rows"]] == [True, False, False, True, False, True, True]


def test_a_sequence_is_a_roll_of_its_length(tmp_path: Path) -> None:
    explorer = open_page("deep_markov_model", tmp_path / "run")
    (control,) = explorer.controls
    assert control == {"name": "lengths", "kind": "number", "low": 1.0, "high": 3.0, "whole": True}
    for length in (2, 3):
        (view,) = explorer.decode({"row": 0, "conditions": {"lengths": length}})["views"]
        assert (view["kind"], view["shape"]) == ("roll", [3, length])


def test_a_file_has_the_answers_of_a_grid(explorer: Explorer, tmp_path: Path) -> None:
    content = content_of(write_page(explorer, tmp_path / "out" / "page.html", num_steps=3).read_text())
    answers = content["answers"]
    assert (answers["steps"], answers["axes"], answers["conditions"]) == (3, list(explorer.space.names), ["y"])
    assert [len(grid) for grid in answers["decoded"]] == [9] * 4
    (low, high), (_, top) = (axis["span"] for axis in content["coordinates"])
    point = {explorer.space.names[0]: (low + high) / 2, explorer.space.names[1]: top}
    mean = explorer.space.decode([point], 0, {"y": 2}).means["x"][0]
    (view,) = answers["decoded"][2][1 * 3 + 2]["views"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(view["bytes"]), np.uint8) / 254, mean, atol=0.51 / 254)
    (own,) = answers["data"][4]["decoded"]
    mean = explorer.space.decode([{}], 4).means["x"][0]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(own["bytes"]), np.uint8) / 254, mean, atol=0.51 / 254)
    with pytest.raises(InputError, match="--num-steps 40 makes a grid of 6400 points with all conditions"):
        write_page(explorer, tmp_path / "page.html", num_steps=40)
    with pytest.raises(InputError, match="cannot be written"):
        write_page(explorer, tmp_path / "out", num_steps=2)


def test_the_verb_writes_the_file_and_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_case("factor_analysis", tmp_path / "run")
    object.__setattr__(run.data, "image_shape", None)
    options = read_options(verb, verb.explore, ["RUN", "--export", str(tmp_path / "page.html"), "--num-steps", "3"])
    chosen = {name: options[name] for name in ("part", "num_data", "export", "num_steps")}
    assert chosen["num_data"] == 500
    monkeypatch.setattr(type(run), "select", lambda self, selection: {**run.data.test, "_row": np.arange(21)})
    outcome = call(verb.explore, {"run": run, **chosen})
    assert outcome.files == [tmp_path / "page.html"]
    assert content_of(outcome.files[0].read_text())["rows"][20] == "row 20"
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(InputError, match=r"explore needs uvicorn: pip install 'ppl-vae\[explore\]'"):
        call(verb.explore, {"run": run})
