"""Memory that does not grow with the model, and a disk that is really full."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from deltavcs.errors import ErrorKind, StorageError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.import_ import import_base
from deltavcs.repo import init_repository
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import raw_tensor, write_checkpoint
from deltavcs.testing.invariants import check_repository

# In a process of its own: anonymous memory (no file pages) is sampled while each verb runs.
MEASURE = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from deltavcs.identity import Identity
from deltavcs.resources import Resources
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import init_repository
from deltavcs.steps.recording import Draft

top, mib = Path(sys.argv[1]), int(sys.argv[2])

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10

def write(name, seed):
    # One tensor of half the model, the rest in sixteen; made block by block.
    (top / name).mkdir()
    half = mib << 19
    header, at = {}, 0
    for key, size in [("big", half), *((f"t{i}", half // 16) for i in range(16))]:
        header[key] = {"dtype": "BF16", "shape": [size // 2048, 1024], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(top / name / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        base, tuned = np.random.default_rng(0), np.random.default_rng(seed)
        for _ in range(at >> 20):
            values = base.normal(0, 0.02, 1 << 19).astype(np.float32)
            if seed:
                values += np.float32(1e-4) * tuned.normal(0, 1, 1 << 19).astype(np.float32)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())

write("v1", 0), write("tuned", 1), write("v2", 2)
when = iter(range(1, 99))
repo = init_repository(top, sync=False).using(
    identity=Identity("t", lambda: next(when)), resources=Resources(threads=2, memory_bytes=64 << 20)
)
verbs = {
    "import": lambda: import_base(repo, str(top / "v1"), draft=Draft("v1")),
    "import again": lambda: import_base(repo, str(top / "v2"), draft=Draft("v2")),
    "commit": lambda: commit(
        repo, str(top / "tuned"), base="v1", draft=Draft("t")
    ),
    "transfer": lambda: transfer(repo, "v1", "v2", deltas=["t"], draft=Draft("m")),
    "checkout": lambda: checkout_files(repo, "t", top / "out"),
    "checkout transfer": lambda: checkout_files(repo, "m", top / "out-m"),
}
repo.index.catch_up()  # DuckDB is loaded, and counts to the baseline
baseline, peaks = anonymous(), {}
for verb, run in verbs.items():
    peak, stop = [0], threading.Event()
    def sample():
        while not stop.wait(0.002):
            peak[0] = max(peak[0], anonymous())
    sampler = threading.Thread(target=sample)
    sampler.start()
    run()
    stop.set(); sampler.join()
    peaks[verb] = (peak[0] - baseline) >> 20
same = (top / "out" / "model.safetensors").read_bytes() == (top / "tuned" / "model.safetensors").read_bytes()
print(json.dumps({"peaks": peaks, "same": same}))
"""


@pytest.mark.timeout(200)
def test_memory_depends_on_the_budget_and_not_on_the_model(tmp_path):
    """A model of 256 MiB, one tensor of 128 MiB, a budget of 64 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), "256"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["same"]
    assert max(result["peaks"].values()) < 160, result["peaks"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("cannot mount a file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(tiny_disk, tmp_path, sign):
    repo = init_repository(tiny_disk, sync=False)
    small = write_checkpoint(tmp_path / "small", {"w": raw_tensor("BF16", [50, 50])})
    large = write_checkpoint(tmp_path / "large", {"w": raw_tensor("U8", [3_000_000])})
    import_base(repo, str(small), draft=Draft("small", signature=sign()))
    before = repo.refs.all()
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            import_base(repo, str(large), draft=Draft("large", signature=sign()))
        assert caught.value.kind is ErrorKind.DISK_FULL and caught.value.retryable
        checked = check_repository(tiny_disk, lineage=False)
        assert checked.refs.all() == before
        checked.objects.packs.forget()
    other = init_repository(tmp_path, sync=False)
    import_base(other, str(large), draft=Draft("large", signature=sign()))
    with pytest.raises(StorageError) as caught:
        checkout_files(other, "large", tiny_disk / "out")
    assert caught.value.kind is ErrorKind.DISK_FULL
    assert f"cannot write {tiny_disk / 'out' / 'model.safetensors'}: " in str(caught.value)
    assert sorted(p.name for p in tiny_disk.iterdir()) == [".dvx"]
    import_base(repo, str(small), draft=Draft("again", signature=sign()))
    repo.objects.packs.forget()  # or the file system stays in use
