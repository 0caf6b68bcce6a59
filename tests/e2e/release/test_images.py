"""What the Dockerfiles make: small where they can be, and in layers of which a change of our code moves few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillery import __version__
from tests.e2e.support.cluster import Cluster

MB = 10**6
NAMES = ("operator", "gateway", "pipeline", "server-cpu")


@pytest.fixture(scope="module", autouse=True)
def built_here(cluster: Cluster) -> None:
    if cluster.context:
        pytest.skip("the images of this cluster were built elsewhere")


def inspect(name: str) -> dict[str, Any]:
    """What buildah knows of an image."""
    from hack.testbed.images.store import Store, qualify
    from hack.testbed.places import Places

    image = qualify(f"localhost/distillery/{name}:{__version__}")
    return json.loads(Store(Places.from_environment()).buildah("inspect", "--type=image", image))


def layers(name: str) -> list[int]:
    """The sizes of an image's layers, in bytes, unpacked, the base's first."""
    from hack.testbed.places import Places

    kept = Path(Places.from_environment().buildah, "store/overlay-layers/layers.json")
    sizes = {layer.get("diff-digest"): layer.get("diff-size", 0) for layer in json.loads(kept.read_text())}
    return [sizes[digest] for digest in inspect(name)["OCIv1"]["rootfs"]["diff_ids"]]


@pytest.mark.parametrize("name", ["operator", "gateway"])
def test_images_without_torch_are_small(name: str):
    assert sum(layers(name)) < 200 * MB


@pytest.mark.parametrize("name", ["operator", "gateway", "pipeline"])
def test_layers_of_our_code_are_small(name: str):
    sizes = layers(name)
    if name == "pipeline":
        heavy = max(range(len(sizes)), key=lambda index: sizes[index])
        assert sizes[heavy] > 1000 * MB
        assert sum(sizes[heavy + 1 :]) < 20 * MB
    else:
        assert sizes[-1] < 5 * MB


@pytest.mark.parametrize("name", NAMES)
def test_images_have_labels_and_do_not_run_as_root(name: str):
    config = inspect(name)["Docker"]["config"]
    assert config["User"] == "65532:65532"
    assert {"org.opencontainers.image.title", "org.opencontainers.image.licenses"} <= config["Labels"].keys()
