"""Small models, and `dvx` run in this process, as a process, and on a terminal."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from dvx.app import cli

REAL = Path(__file__).parents[3] / "shared/data/models/stories260k"
DVX = [sys.executable, "-m", "dvx"]


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path_factory):
    """No setting of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("DVX_", "GIT_")) or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("DVX_AUTHOR", "Ada <ada@example.org>")
    monkeypatch.setenv("TERM", "xterm-256color")


def tensors(seed: int) -> dict[str, np.ndarray]:
    """A transformer of one layer, as random numbers."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        return random.standard_normal(shape).astype(np.float32)

    return {
        "model.embed_tokens.weight": draw(32, 8),
        "model.layers.0.self_attn.q_proj.weight": draw(8, 8),
        "model.layers.0.mlp.up_proj.weight": draw(16, 8),
        "model.norm.weight": draw(8),
    }


def write_model(folder: Path, values: dict[str, np.ndarray]) -> Path:
    """A checkpoint directory."""
    folder.mkdir(parents=True)
    save_file(values, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 32}))
    return folder


def moved(values: dict[str, np.ndarray], by: float, seed: int) -> dict[str, np.ndarray]:
    """`values` after some training."""
    random = np.random.default_rng(seed)
    return {
        k: v + np.float32(by) * random.standard_normal(v.shape).astype(np.float32) for k, v in values.items()
    }


@dataclass
class Models:
    v1: Path
    v2: Path
    chat: Path
    code: Path


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Models:
    """Two bases and two fine-tunes of the first."""
    root = tmp_path_factory.mktemp("models")
    base = tensors(0)
    return Models(
        write_model(root / "v1", base),
        write_model(root / "v2", moved(base, 0.05, 1)),
        write_model(root / "chat", moved(base, 0.01, 2)),
        write_model(root / "code", moved(base, 0.02, 3)),
    )


class Dvx:
    """`dvx` in this process."""

    def __init__(self):
        self._runner = CliRunner()

    def __call__(self, *args, code=0, input=None):
        result = self._runner.invoke(cli, [str(a) for a in args], input=input)
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr
        return result

    def json(self, *args, code=0):
        """The document on stdout."""
        return json.loads(self(*args, "--json", code=code).stdout)

    def error(self, *args, code):
        """The error record on stderr."""
        result = self(*args, "--json", code=code)
        assert result.stdout == ""
        return json.loads(result.stderr)["error"]


@pytest.fixture
def dvx() -> Dvx:
    return Dvx()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def template(tmp_path_factory, models) -> Path:
    """What `repo` is a copy of."""
    root, dvx = tmp_path_factory.mktemp("template"), Dvx()
    dvx("init", root)
    dvx("import", models.v1, "--repo", root)
    dvx("import", models.v2, "-m", "the new release", "--repo", root)
    told = ("-m", "instruction tuning", "--task", "talk")
    dvx("commit", models.chat, "--base", "v1", *told, "--repo", root)
    dvx("transfer", "--from", "v1", "--to", "v2", "--repo", root)
    return root


@pytest.fixture
def repo(folder, template) -> Path:
    """The working directory is a repository with two bases, a fine-tune and its transfer."""
    shutil.copytree(template / ".dvx", folder / ".dvx")
    return folder


def run(*args, timeout=60, **kwargs):
    """`dvx` as a process."""
    return subprocess.run(
        [*DVX, *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False, **kwargs
    )


@pytest.fixture
def process():
    return run


@dataclass
class Screen:
    """What a terminal showed, on both streams."""

    code: int
    text: str


def on_terminal(*args, columns=80, interrupt_after=None, env=None, program=None) -> Screen:
    """`dvx`, or a Python program, with a terminal as stdin, stdout and stderr."""
    pid, master = pty.fork()
    if pid == 0:
        os.environ["COLUMNS"] = str(columns)
        os.environ.update(env or {})
        command = DVX if program is None else [sys.executable, "-c", program]
        os.execv(sys.executable, [*command, *map(str, args)])
    out, started = b"", time.monotonic()
    while True:
        if interrupt_after is not None and time.monotonic() - started > interrupt_after:
            os.kill(pid, signal.SIGINT)
            interrupt_after = None
        if not select.select([master], [], [], 0.02)[0]:
            if time.monotonic() - started > 60:
                os.kill(pid, signal.SIGKILL)
            continue
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return Screen(os.waitstatus_to_exitcode(status), out.decode())


@pytest.fixture
def terminal():
    return on_terminal


@pytest.fixture
def real_model() -> Path:
    if not REAL.is_dir():
        pytest.skip("stories260k is not here")
    return REAL


@pytest.fixture
def make():
    """Functions that make models: tensors, moved, write_model."""
    return tensors, moved, write_model
