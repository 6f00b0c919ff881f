"""Makes the builders of this folder importable, and one small repository for all tests that only read."""

import sys
from pathlib import Path

import pytest

from deltavcs.errors import DeltaVCSError
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A repository whose packs are small and hold a plain, a delta and a derived entry. Not to be changed."""
    top = tmp_path_factory.mktemp("world")
    repo = init_repository(top / "repo", sync=False)
    base = {"w": raw_tensor("BF16", [40, 20], seed=1)}
    when = Signature("t", 1)
    import_base(repo, str(write_checkpoint(top / "a", base)), draft=Draft("a", signature=when))
    target = write_checkpoint(top / "b", fine_tuned(base, seed=2))
    import_base(repo, str(target), draft=Draft("b", signature=when))
    tuned = write_checkpoint(top / "c", fine_tuned(base, seed=3))
    commit(repo, str(tuned), base="a", draft=Draft("c", signature=when))
    transfer(repo, "c", "b", draft=Draft("d", signature=when))
    return repo


@pytest.fixture
def everything():
    """Reads all bytes of all blobs of a `world` by id, or gives the error that reading one gives."""

    def read(repo):
        found = {}
        for ref in ("a", "b", "c", "d"):
            manifest = repo.manifest(repo.resolve(ref))
            for x in (*manifest.files, *manifest.tensors.values()):
                try:
                    found[x.blob] = repo.objects.blobs.read(x.blob, max_bytes=1 << 20)
                except DeltaVCSError as exc:
                    found[x.blob] = exc
        return found

    return read
