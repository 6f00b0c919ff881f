"""Makes tests/golden/repo-v1: `python tests/golden/make.py`. Only when the format changes, with the spec.

Everything about it is fixed: clock, author, weights. Its lineage index is left out; it is derived.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.refs import ABSENT
from deltavcs.repo import init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint

HERE = Path(__file__).parent


def make(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        repo = init_repository(top)
        # Names, not paths, so that nothing of this machine is in it.
        embed = raw_tensor("BF16", [96, 32], seed=1)
        base = {"embed_tokens.weight": embed, "w": raw_tensor("F32", [32, 32], seed=2)}
        base |= {"scalar": raw_tensor("F16", [], seed=3), "empty": raw_tensor("I64", [0, 2])}
        config = {"config.json": b'{"vocab_size": 96}\n', "sub/notes.txt": "ünïcødé\n".encode()}
        write_checkpoint(top / "v1", base, shards=2, files=config)
        write_checkpoint(top / "v2", fine_tuned(base, seed=4, scale=0.5), files=config)
        write_checkpoint(top / "chat", fine_tuned(base, seed=5), indent=1, metadata={"format": "pt"})
        write_checkpoint(top / "chat-2", fine_tuned(base, seed=6, share=0.1))
        clock = iter(range(1, 100))

        def when(message: str = "") -> Signature:
            return Signature("golden", next(clock) * 1_000_000, message)

        import_base(repo, str(top / "v1"), draft=Draft("v1", signature=when()))
        import_base(repo, str(top / "v2"), draft=Draft("v2", message="the new one", signature=when()))
        commit(repo, str(top / "chat"), base="v1", draft=Draft("chat", task="chat", signature=when()))
        commit(
            repo, str(top / "chat-2"), base="v1", draft=Draft("chat", metadata={"k": "v"}, signature=when())
        )
        transfer(repo, "chat", "v2", scale=0.75, draft=Draft(signature=when()))
        repo.refs.move("refs/tags/first", expected=ABSENT, new=repo.resolve("chat~1"), signature=when())
        expected = {}
        for name in ("v1", "v2", "chat", "first", "v2+chat"):
            checkout_files(repo, name, top / f"out-{name}")
            expected[name] = {
                p.relative_to(top / f"out-{name}").as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
                for p in sorted((top / f"out-{name}").rglob("*"))
                if p.is_file() and p.name != ".dvx-checkout.json"
            }
        shutil.rmtree(target, ignore_errors=True)
        # Called dvx and not .dvx, so that no tool takes this folder for a repository.
        shutil.copytree(repo.path, target / "dvx", ignore=shutil.ignore_patterns("lineage*", "tmp", "locks"))
        (target / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    make(HERE / "repo-v1")
