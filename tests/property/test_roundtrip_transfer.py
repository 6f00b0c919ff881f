"""Transfers equal float64(m_t) + λ(float64(m'_s) − float64(m_s)), rounded once, to the bit."""

from __future__ import annotations

import hashlib
import struct
from fractions import Fraction

import numpy as np
import pytest
from dvx_reader import Reader, narrow, widen

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint

FORMATS = {"F32": (8, 23), "F16": (5, 10), "BF16": (8, 7)}  # exponent and fraction bits
SIZE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def value_of(pattern, dtype):
    """An exact rational, or None for a NaN or an infinity."""
    e, p = FORMATS[dtype]
    field, fraction = pattern >> p & ((1 << e) - 1), pattern & ((1 << p) - 1)
    if field == (1 << e) - 1:
        return None
    bias = (1 << (e - 1)) - 1
    scale = Fraction(2) ** (max(field, 1) - bias - p)
    value = (fraction + (1 << p if field else 0)) * scale
    return -value if pattern >> (e + p) else value


def float64_of(value):
    """A rational rounded once to binary64: Python's own division is exact to the rounding."""
    return value.numerator / value.denominator


def round_once(x, dtype):
    """The pattern nearest to a float, by exact comparison with its two neighbours."""
    e, p = FORMATS[dtype]
    sign = (1 << (e + p)) if struct.pack(">d", x)[0] & 0x80 else 0
    exact, largest = abs(Fraction(x)), ((1 << e) - 1 << p) - 1
    low, high = 0, largest + 1
    while high - low > 1:  # low is the largest pattern whose value is at most |x|
        middle = (low + high) // 2
        low, high = (middle, high) if value_of(middle, dtype) <= exact else (low, middle)
    below = value_of(low, dtype)
    step = (
        value_of(low, dtype) - value_of(low - 1, dtype)
        if low == largest
        else value_of(low + 1, dtype) - below
    )
    above = below + step
    if exact - below > above - exact or (exact - below == above - exact and low % 2):
        low += 1
    return sign | low


def patterns(tensor_bytes, dtype):
    return np.frombuffer(tensor_bytes, f"<u{SIZE[dtype]}").tolist()


def checkout_tensors(directory):
    """Names to (dtype, shape, bytes) by reading the file plainly."""
    import json

    found = {}
    for path in directory.glob("*.safetensors"):
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        for name, t in json.loads(data[8 : 8 + size]).items():
            if name != "__metadata__":
                low, high = (8 + size + x for x in t["data_offsets"])
                found[name] = t["dtype"], tuple(t["shape"]), data[low:high]
    return found


@pytest.fixture
def world(repo, tmp_path, sign):
    """Adds named checkpoints: `add(name, tensors, base)`."""

    def add(name, tensors, base=None, **kw):
        directory = write_checkpoint(tmp_path / name, tensors, **kw)
        if base is None:
            import_base(repo, str(directory), draft=Draft(name, signature=sign()))
        else:
            commit(repo, str(directory), base=base, draft=Draft(name, signature=sign()))

    return add


def three(dtype, n=40, k=24):
    source = {"a.weight": raw_tensor(dtype, [n, k], seed=1), "norm": raw_tensor(dtype, [k], seed=2)}
    target = fine_tuned(source, seed=3, scale=0.5)
    tuned = fine_tuned(source, seed=4, scale=0.2, share=0.7)
    return target, tuned, source


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("scale", [1.0, 0.7, -1.5, 1e-3])
def test_equal_to_exact_rational_arithmetic(world, repo, tmp_path, sign, dtype, scale):
    target, tuned, source = three(dtype)
    world("t", target)
    world("s", source)
    world("x", tuned, base="s")
    transfer(repo, "x", "t", scale=scale, draft=Draft("out", signature=sign()))
    checkout_files(repo, "out", tmp_path / "out")
    got = checkout_tensors(tmp_path / "out")
    for name in source:
        sides = [patterns(m[name].data, dtype) for m in (target, tuned, source)]
        for result, *three_patterns in zip(patterns(got[name][2], dtype), *sides, strict=True):
            m_t, m_x, m_s = (value_of(x, dtype) for x in three_patterns)
            delta = float64_of(m_x - m_s)  # one binary64 rounding each, as the spec says
            product = float64_of(Fraction(delta) * Fraction(scale))
            expected = float64_of(m_t + Fraction(product))
            assert result == round_once(expected, dtype)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
def test_every_kind_of_number(world, repo, tmp_path, sign, dtype):
    """Infinities, NaN payloads, subnormals, both zeros and values next to midpoints, in all three places."""
    rng = np.random.default_rng(5)
    size = SIZE.get(dtype, 1)
    tensors = [{"w": raw_tensor(dtype, [64, 64], rng.bytes(64 * 64 * size))} for _ in range(3)]
    for name, tensor in zip("txs", tensors, strict=True):
        world(name, tensor)
    commit(repo, str(tmp_path / "x"), base="s", draft=Draft("tuned", signature=sign()))
    transfer(repo, "tuned", "t", scale=0.3, draft=Draft("out", signature=sign()))
    checkout_files(repo, "out", tmp_path / "out")
    m_t, m_x, m_s = (widen(t["w"].data, dtype) for t in tensors)
    with np.errstate(all="ignore"):
        expected = narrow(m_t + (m_x - m_s) * 0.3, dtype)
    assert checkout_tensors(tmp_path / "out")["w"][2] == expected


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    ("rows_t", "rows_x", "rows_s"), [(40, 45, 40), (48, 40, 40), (40, 50, 44), (50, 44, 40), (40, 36, 40)]
)
def test_padded_vocabularies(world, repo, tmp_path, sign, dtype, rows_t, rows_x, rows_s):
    """Rows that a base lacks count as zeros; a row beyond the fine-tune's is the target's own."""
    size = SIZE[dtype]

    def rows(n, seed):
        whole = raw_tensor(dtype, [64, 8], seed=seed).data
        return {
            "embed_tokens.weight": raw_tensor(dtype, [n, 8], whole[: n * 8 * size]),
            "w": raw_tensor(dtype, [8, 8], seed=seed + 50),
        }

    sides = rows(rows_t, 1), rows(rows_x, 2), rows(rows_s, 3)
    world("t", sides[0], files={"config.json": b'{"vocab_size": %d}' % rows_t})
    world("s", sides[2])
    world("x", sides[1], base="s")
    transfer(repo, "x", "t", scale=0.5, draft=Draft("out", signature=sign()))
    checkout_files(repo, "out", tmp_path / "out")
    got_dtype, shape, data = checkout_tensors(tmp_path / "out")["embed_tokens.weight"]
    n = max(rows_t, rows_x)
    assert (got_dtype, shape) == (dtype, (n, 8))
    m_t, m_x, m_s = (
        np.concatenate([widen(t["embed_tokens.weight"].data, dtype), np.zeros(8 * (n - r))])
        for t, r in zip(sides, (rows_t, rows_x, rows_s), strict=True)
    )
    m_s[8 * min(rows_x, rows_s) :] = 0  # no change where the fine-tune has no row
    assert data == narrow(m_t + (m_x - m_s) * 0.5, dtype)
    config = (tmp_path / "out" / "config.json").read_text()
    assert f'"vocab_size": {n}' in config


@pytest.mark.parametrize(("t", "s"), [("BF16", "F32"), ("F32", "BF16"), ("F16", "BF16")])
def test_the_result_has_the_dtype_of_the_target(world, repo, tmp_path, sign, t, s):
    target = {"w": raw_tensor(t, [16, 16], seed=1)}
    source = {"w": raw_tensor(s, [16, 16], seed=2)}
    tuned = fine_tuned(source, seed=3)
    world("t", target)
    world("s", source)
    world("x", tuned, base="s")
    transfer(repo, "x", "t", draft=Draft("out", signature=sign()))
    checkout_files(repo, "out", tmp_path / "out")
    m_t, m_x, m_s = widen(target["w"].data, t), widen(tuned["w"].data, s), widen(source["w"].data, s)
    assert checkout_tensors(tmp_path / "out")["w"] == (t, (16, 16), narrow(m_t + (m_x - m_s), t))


def sums(directory):
    return {
        p.relative_to(directory).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in directory.rglob("*")
        if p.is_file() and p.name != ".dvx-checkout.json"
    }


@pytest.mark.parametrize("dtype", FORMATS)
def test_an_expression_is_the_transfer_that_it_spells(world, repo, tmp_path, sign, dtype):
    target, tuned, source = three(dtype)
    world("t", target, shards=2, files={"config.json": b"{}", "tokenizer.json": b"old"})
    world("s", source)
    world("x", tuned, base="s", files={"tokenizer.json": b"new", "README.md": b"mine"})
    transfer(repo, "s", "t", scale=0.25, draft=Draft("out", signature=sign()))
    recipe = repo.commit(repo.resolve("out")).recipe
    for i, text in enumerate(
        ["out", "t + 0.25 * (x - s)", "t + (x - s) * 0.25", "(t + (x - s) / 4)", recipe]
    ):
        checkout_files(repo, text, tmp_path / f"out-{i}")
        assert sums(tmp_path / f"out-{i}") == sums(tmp_path / "out-0"), text
    assert (tmp_path / "out-0" / "tokenizer.json").read_bytes() == b"new"


def test_derived_of_derived(world, repo, tmp_path, sign):
    target, tuned, source = three("BF16")
    newest = fine_tuned(target, seed=11, scale=0.5)
    world("s", source)
    world("t", target)
    world("u", newest)
    world("x", tuned, base="s")
    transfer(repo, "x", "t", draft=Draft("first", signature=sign()))
    transfer(repo, "first", "u", scale=0.5, draft=Draft("second", signature=sign()))
    transfer(repo, "second", "s", scale=2.0, draft=Draft("third", signature=sign()))
    blob = repo.manifest(repo.resolve("third")).tensors["a.weight"].blob
    assert repo.objects.blobs.stored(blob).depth >= 3

    def step(m_t, m_x, m_s, scale):
        return widen(narrow(m_t + (m_x - m_s) * scale, "BF16"), "BF16")

    s, t, u, x = (widen(m["a.weight"].data, "BF16") for m in (source, target, newest, tuned))
    first = step(t, x, s, 1.0)
    second = step(u, first, t, 0.5)
    third = step(s, second, u, 2.0)
    checkout_files(repo, "third", tmp_path / "out")
    assert checkout_tensors(tmp_path / "out")["a.weight"][2] == narrow(third, "BF16")
    reader = Reader(repo.path)
    read = reader.read_files(reader.refs()["refs/heads/third"])
    assert {p: hashlib.sha256(d).hexdigest() for p, (d, _) in read.items()} == sums(tmp_path / "out")


def test_a_transfer_costs_kilobytes(world, repo, sign):
    tensors = {"w": raw_tensor("BF16", [1024, 1024], seed=1), "v": raw_tensor("F32", [512, 512], seed=2)}
    world("s", tensors)
    world("t", fine_tuned(tensors, seed=3, scale=0.5))
    world("x", fine_tuned(tensors, seed=4), base="s")
    packs = set((repo.path / "packs").glob("*.pack"))
    (done,) = transfer(repo, "x", "t", scale=0.9, draft=Draft("out", signature=sign()))
    [pack] = set((repo.path / "packs").glob("*.pack")) - packs
    # What is stored counts the index of the pack, manifest and commit as well.
    assert 0 < pack.stat().st_size < 2048 < done.recorded.stored_bytes


def test_tensors_of_several_chunks_are_derived_alike(world, repo, tmp_path, sign):
    """4.4 MB: two derived chunks over five of the inputs, many blocks."""
    tensors = {"w": raw_tensor("BF16", [2200, 1000], seed=1)}
    tuned, target = fine_tuned(tensors, seed=2), fine_tuned(tensors, seed=3, scale=0.5)
    world("s", tensors)
    world("t", target)
    world("x", tuned, base="s")
    transfer(repo, "x", "t", scale=1 / 3, draft=Draft("out", signature=sign()))
    checkout_files(repo, "out", tmp_path / "out")
    m_t, m_x, m_s = (widen(m["w"].data, "BF16") for m in (target, tuned, tensors))
    assert checkout_tensors(tmp_path / "out")["w"][2] == narrow(m_t + (m_x - m_s) * (1 / 3), "BF16")
