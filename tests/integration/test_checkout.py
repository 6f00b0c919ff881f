"""Checking out with few file descriptors and many files, with many threads and one cache of chunks."""

import resource
import threading

import pytest

from deltavcs.objects.reader import BlobReader
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import init_repository, open_repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint

WHEN = Signature("tester", 1_700_000_000_000_000)


@pytest.fixture
def few_files():
    """As many open files as some systems allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_checkpoint_of_many_small_files(tmp_path, few_files, threads):
    source = tmp_path / "many"
    write_checkpoint(source, {"w": raw_tensor("BF16", [64, 64], seed=1)})
    for i in range(600):
        (source / f"f{i:04}.txt").write_text(str(i) * (i % 3))
    repo = init_repository(tmp_path / "repo", sync=False).using(resources=Resources(threads=threads))
    import_base(repo, str(source), draft=Draft("many", signature=WHEN))
    checkout_files(repo, "many", tmp_path / "out")
    for path in source.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_threads_do_not_push_each_others_chunks_out(tmp_path, monkeypatch):
    """A fine-tune of a transferred model: each chunk is computed about once on any number of threads."""
    base = {"w": raw_tensor("BF16", [4096, 2048], seed=1)}
    repo = init_repository(tmp_path / "repo", sync=False)
    for name, seed in (("v1", 0), ("v2", 5)):
        write_checkpoint(tmp_path / name, fine_tuned(base, seed=seed) if seed else base)
        import_base(repo, str(tmp_path / name), draft=Draft(name, signature=WHEN))
    write_checkpoint(tmp_path / "chat", fine_tuned(base, seed=2))
    commit(repo, str(tmp_path / "chat"), base="v1", draft=Draft("chat", signature=WHEN))
    transfer(repo, "chat", "v2", draft=Draft("moved", signature=WHEN))
    write_checkpoint(tmp_path / "top", fine_tuned(base, seed=7))
    commit(repo, str(tmp_path / "top"), base="moved", draft=Draft("top", signature=WHEN))
    counted: list[int] = []
    before = BlobReader._decode
    lock = threading.Lock()

    def count(self, stored, i, out):
        with lock:
            counted[-1] += 1
        before(self, stored, i, out)

    monkeypatch.setattr(BlobReader, "_decode", count)
    for threads in (1, 4):
        counted.append(0)
        checkout_files(
            open_repository(tmp_path / "repo", resources=Resources(threads=threads)),
            "top",
            tmp_path / f"out{threads}",
        )
    # Two threads may miss the same chunk at once.
    assert counted[1] <= 2 * counted[0], counted
