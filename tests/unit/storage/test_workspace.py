"""Writers' folders, and what sweeps them."""

from __future__ import annotations

import threading

import pytest

from deltavcs.errors import DeltaVCSError
from deltavcs.storage import LocalStorage, Workspace
from deltavcs.storage.workspace import sweep


def test_a_sweep_leaves_the_living_alone(storage):
    with Workspace(storage) as living:
        file = living.create("pack")
        file.append(b"abc")
        sweep(storage)
        assert file.path.read_bytes() == b"abc"
        file.publish("packs/p")
    assert storage.read("packs/p", max_bytes=3) == b"abc"
    assert list((storage.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("left", ["writer-1/lock", "writer-1/pack", "writer-1/deep/er", "put-1"])
def test_a_sweep_takes_what_the_dead_left(storage, left):
    """A writer killed before it made its lock, while it wrote, or while it removed its folder."""
    path = storage.root / "tmp" / left
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    (storage.root / "tmp" / "writer-empty").mkdir()
    sweep(storage)
    assert list((storage.root / "tmp").iterdir()) == []


def test_writers_that_are_born_while_others_sweep(tmp_path):
    storage = LocalStorage(tmp_path, sync=False)
    failures = []

    def work():
        try:
            for _ in range(150):
                with Workspace(storage) as workspace:
                    workspace.create("x").append(b"abc")
        except DeltaVCSError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list((tmp_path / "tmp").iterdir()) == []
