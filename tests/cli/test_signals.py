"""Ctrl-C at any moment: status 130, one line, no traceback, nothing half done."""

import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import sys, threading, time
from dvx import signals
signals.install()
from dvx.app import cli
from dvx.session import Session
def doze():
    # A signal just before a long sleep would be seen after it.
    for _ in range(600):
        time.sleep(0.1)
def slow(self):
    {body}
Session.repository = slow
signals.leave(cli.run(["log", *sys.argv[1:]]))
"""

BODIES = {
    "python": "print('ready', flush=True); doze()",
    "a pool of threads": """
    from deltavcs.pool import Pool
    from deltavcs.resources import Resources
    print('ready', flush=True)
    with Pool(Resources(threads=2)) as pool:
        list(pool.map(lambda i: time.sleep(0.2), range(1000)))
""",
    "another error": """
    print('ready', flush=True)
    try:
        doze()
    except KeyboardInterrupt:
        raise ImportError('numpy is half imported')
""",
    "a thread that never ends": """
    threading.Thread(target=doze).start()
    print('ready', flush=True)
    doze()
""",
}


def interrupted(*args, **options):
    code, _, stderr = all_of_interrupted(*args, **options)
    return code, stderr


def all_of_interrupted(command, number=signal.SIGINT, after_ready=True, delay=0.0):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if after_ready:
        process.stdout.readline()
    time.sleep(delay)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_interrupt(folder, body):
    code, stderr = interrupted([sys.executable, "-c", SLOW.format(body=body)])
    assert (code, stderr) == (130, "error: interrupted\n")


def test_terminate(folder):
    script = SLOW.format(body=BODIES["python"])
    code, stderr = interrupted([sys.executable, "-c", script], signal.SIGTERM)
    assert (code, stderr) == (143, "error: terminated\n")


def test_interrupt_as_json(folder):
    script = SLOW.format(body=BODIES["python"])
    code, stderr = interrupted([sys.executable, "-c", script, "--json"])
    assert code == 130
    assert '"exit_code": 130' in stderr


@pytest.mark.parametrize("delay", [0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8])
def test_interrupt_during_start_up(repo, delay):
    command = [sys.executable, "-c", "print('ready', flush=True); from dvx.main import main; main()"]
    code, stderr = interrupted([*command, "fsck", "--full"], delay=delay - 0.15)
    if code == 0:
        pytest.skip("it was done before the signal")
    if ("dvx/main.py" in stderr and "signals.install" in stderr) or code == -signal.SIGINT:
        pytest.skip("the interpreter itself was interrupted")
    assert code == 130
    assert stderr == "error: interrupted\n"


def test_an_interrupted_commit_leaves_the_repository_whole(repo, make, dvx, process):
    import numpy as np

    _, _, write_model = make
    rng = np.random.default_rng(0)
    big = {f"t{i}": rng.standard_normal((1 << 20,)).astype(np.float32) for i in range(16)}
    write_model(repo / "big", big)
    before = dvx.json("log")["commits"]
    command = [sys.executable, "-c", "print('ready', flush=True); from dvx.main import main; main()"]
    code, stdout, stderr = all_of_interrupted([*command, "import", "big", "--threads", "1"], delay=0.8)
    if code == 0:
        pytest.skip("it was done before the signal")
    assert code == 130
    after = dvx.json("log")["commits"]
    # All or nothing: the signal may come after the branch moved, while the index catches up; then it is said.
    if after == before:
        assert stderr == "error: interrupted\n"
    else:
        assert after[1:] == before and after[0]["names"] == ["big"]
        commit = after[0]["commit"][:12]
        told = f"big {commit} imported" in stdout
        assert told or stderr == f"error: interrupted; big was already recorded as {commit}\n"
    assert dvx.json("fsck", "--full")["ok"]
    assert not [p for p in (repo / ".dvx/tmp").iterdir() if p.is_file() and p.stat().st_size]
    dvx("import", "big")
