"""Size, encode and decode speed of every way to store a fine-tune, paired in one run.

Speeds are raw bytes per second of one thread, memory to memory, by CPU time, the best of N rounds in which
all contestants take turns. Encoding includes the choice of tables.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deltavcs.codec import native_info
from deltavcs.codec.numbers import LAYOUTS, contexts, differences
from deltavcs.objects.domain import tensor_domain
from deltavcs.objects.incoming import MemorySource, NewBlob
from deltavcs.objects.pack import CHUNK
from deltavcs.objects.store import ObjectStore
from deltavcs.repo import init_repository
from deltavcs.resources import Resources

from . import plots
from .base import Context, Result, ratio, say, table
from .codec_contestants import OURS, OURS_ALONE, REFERENCE, Contestant, alone, on_level, with_a_base
from .data import Tensors, pairs_in


@dataclass
class Row:
    """One contestant on one pair; sizes in bytes, times in seconds."""

    name: str
    uses_base: bool
    raw: int
    stored: int = 0
    encode_s: float = float("inf")
    decode_s: float = float("inf")
    failure: str = ""


def ideal_bytes(base: Tensors, tuned: Tensors) -> tuple[float, float]:
    """Entropy of the differences given the base's exponent, per tensor, tables free: of tokens, of values.

    Of tokens: the raw bits of a token count in full (specification, 4.2); the design's measure. Of values:
    every difference is a symbol of its own; less than any coder reaches, as free tables of symbols that occur
    once are the data themselves. Zero for 32-bit types, where most differences occur once.
    """
    tokens = values = 0.0
    if any(LAYOUTS[dtype].width > 16 for dtype, _ in tuned.values()):
        return 0.0, 0.0
    for name, (dtype, target) in tuned.items():
        layout = LAYOUTS[dtype]
        against = base[name][1].view(layout.word)
        zigzag = differences(target.view(layout.word), against, layout).astype(np.int64)
        octave = np.floor(np.log2(np.maximum(zigzag, 1))).astype(np.int64)
        raw = np.where(zigzag < 16, 0, octave - 2)
        token = np.where(zigzag < 16, zigzag, 4 * octave + (zigzag >> raw & 3))
        exponent = (against >> layout.mantissa).astype(np.int64) & (layout.exponents - 1)
        context = contexts(against, int(exponent.max()), layout)
        tokens += float(raw.sum())
        for c in np.unique(context):
            tokens += _entropy(token[context == c])
            values += _entropy(zigzag[context == c])
    return tokens / 8, values / 8


def _entropy(symbols: np.ndarray) -> float:
    """Bits of all of them, with their own frequencies."""
    counts = np.unique(symbols, return_counts=True)[1]
    return -float((counts * np.log2(counts / counts.sum())).sum())


def measure(one: Contestant, row: Row, base: Tensors, tuned: Tensors) -> None:
    """One round of one contestant; keeps the best times and checks the bytes."""
    clock = time.process_time
    start = clock()
    states = {name: one.encode(dtype, target, base[name][1]) for name, (dtype, target) in tuned.items()}
    row.encode_s = min(row.encode_s, clock() - start)
    row.stored = sum(stored for stored, _ in states.values())
    outs = {name: np.ones_like(target) for name, (_, target) in tuned.items()}
    start = clock()
    for name, (dtype, _) in tuned.items():
        one.decode(dtype, states[name][1], base[name][1], outs[name])
    row.decode_s = min(row.decode_s, clock() - start)
    if any(not np.array_equal(outs[name], target) for name, (_, target) in tuned.items()):
        raise ValueError("decoded other bytes")


def compete(field: list[Contestant], base: Tensors, tuned: Tensors, reps: int) -> list[Row]:
    """All contestants on one pair, taking turns."""
    raw = sum(target.size for _, target in tuned.values())
    absent = [f"absent: {one.absent}" if one.absent else "" for one in field]
    rows = [Row(one.name, one.uses_base, raw, failure=a) for one, a in zip(field, absent, strict=True)]
    for turn in range(reps):
        for one, row in zip(field, rows, strict=True):
            if row.failure or (one.rounds and turn >= one.rounds):
                continue
            try:
                with on_level(one.level):
                    measure(one, row, base, tuned)
            except Exception as exc:  # a contestant's failure is a result
                row.failure = f"failed: {exc!r}"[:70]
    return rows


def in_a_pack(ctx: Context, base: Tensors | None, tuned: Tensors) -> Result:
    """What a repository's pack holds for `tuned`: all bytes, and those that are not payload."""
    with ctx.folder("pack") as folder:
        objects = init_repository(folder, sync=False).objects
        ids: dict[str, str] = {}
        if base is not None:
            _add(objects, base, ids)
        before = sum(p.stat().st_size for p in folder.glob(".dvx/packs/*.pack"))
        prefixes, sides, chunk_tables = _add(objects, tuned, ids)
        after = sum(p.stat().st_size for p in folder.glob(".dvx/packs/*.pack"))
    return {
        "bytes": after - before,
        "overhead": prefixes,
        "sides": sides,
        "chunk_tables": chunk_tables,
    }


def _add(objects: ObjectStore, tensors: Tensors, ids: dict[str, str]) -> tuple[int, int, int]:
    new = [
        NewBlob(
            name,
            tensor_domain(dtype, (data.nbytes * 8 // LAYOUTS[dtype].width,)),
            MemorySource(data),
            bases=(ids[name],) if name in ids else (),
        )
        for name, (dtype, data) in tensors.items()
    ]
    with objects.transaction(Resources(), level=3) as transaction:
        added = list(transaction.add_blobs(new))
        transaction.finish()
    ids.update({one.tag: one.blob for one in added})
    heads = [objects.blobs.stored(one.blob).prefix.head for one in added if one.stored_bytes]
    return (
        sum(head.prefix_bytes for head in heads),
        sum(head.side_bytes for head in heads),
        sum(head.n_chunks for head in heads) * CHUNK.itemsize,
    )


def run(ctx: Context) -> Result:
    """All pairs, and the base of each bf16 pair alone."""
    found = []
    for name, (base, tuned) in pairs_in(ctx).items():
        say(f"  {name}")
        dtype = next(iter(tuned.values()))[0]
        rows = compete(with_a_base(), base, tuned, ctx.reps(5))
        found.append(_entry(f"{name}: the fine-tune", dtype, rows, in_a_pack(ctx, base, tuned)))
        found[-1]["ideal"], found[-1]["ideal_values"] = ideal_bytes(base, tuned)
        if dtype == "BF16":
            rows = compete(alone(), base, base, ctx.reps(5))
            found.append(_entry(f"{name}: the base alone", dtype, rows, in_a_pack(ctx, None, base)))
    return {"level": native_info().level, "rounds": ctx.reps(5), "pairs": found}


def _entry(name: str, dtype: str, rows: list[Row], pack: Result) -> Result:
    kept = [asdict(row) for row in rows]
    for row in kept:
        if row["failure"]:
            row["encode_s"] = row["decode_s"] = None
    return {"name": name, "dtype": dtype, "raw": rows[0].raw, "rows": kept, "pack": pack, "ideal": 0.0}


def render(result: Result) -> list[str]:
    lines = [
        f"One thread, CPU time, memory to memory, best of {result['rounds']} rounds in which all take",
        f"turns. Kernels are {result['level']} unless the name says otherwise; without native kernels",
        "(numpy), long tensors are not entropy-coded. Speeds count raw bytes, ratios are to the first row.",
        "Encoding includes the choice of tables. Contestants that cut chunks cut them as deltavcs does; the",
        "byte planes are our kernels, faster than those of the recipes' authors.",
        "",
    ]
    for pair in result["pairs"]:
        first = pair["rows"][0]
        lines += [f"### {pair['name']}, {pair['raw'] / 1e6:.1f} MB", ""]
        lines += table(
            ["", "stored / raw", "size", "encode GB/s", "encode", "decode GB/s", "decode"],
            (_cells(row, first) for row in pair["rows"]),
        )
        lines += [_about(pair), ""]
        if pair["rows"][0]["name"] == REFERENCE:
            lines += [f"![size against speed]({plots.IMAGES}/codec-{pair['dtype'].lower()}.svg)", ""]
    return lines


def _cells(row: Result, first: Result) -> list[str]:
    if row["failure"]:
        return [row["name"], row["failure"], "", "", "", "", ""]
    name = f"**{row['name']}**" if row["name"] in (OURS, OURS_ALONE) else row["name"]
    cells = [name, f"{row['stored'] / row['raw']:.4f}", ratio(row["stored"] / first["stored"])]
    for key in ("encode_s", "decode_s"):
        cells += [f"{row['raw'] / row[key] / 1e9:.3f}", ratio(first[key] / row[key])]
    return cells


def _about(pair: Result) -> str:
    pack, raw = pair["pack"], pair["raw"]
    text = (
        f"In a pack, everything counted: {pack['bytes'] / raw:.4f} of raw. Of that, "
        f"{pack['overhead'] / pack['bytes']:.2%} is not payload: tables {pack['sides'] / 1e3:.1f} kB, chunk "
        f"tables with checksums {pack['chunk_tables'] / 1e3:.1f} kB, heads of entries "
        f"{(pack['overhead'] - pack['sides'] - pack['chunk_tables']) / 1e3:.1f} kB."
    )
    if pair["ideal"]:
        ideal = pair["ideal"]
        text += (
            f" Ideal conditional entropy per tensor, tables free: {ideal / raw:.4f} of raw for an order-0 "
            f"coder of the tokens, of which the pack is {pack['bytes'] / ideal:.3f} ×; "
            f"{pair['ideal_values'] / raw:.4f} if every difference were a symbol with a free table, of which "
            f"it is {pack['bytes'] / pair['ideal_values']:.3f} ×."
        )
    return text


def plot(result: Result, folder: Path) -> None:
    for pair in result["pairs"]:
        if pair["rows"][0]["name"] != REFERENCE:
            continue
        rows = [r for r in pair["rows"] if not r["failure"] and ", numpy" not in r["name"]]
        points = {
            row["name"]: (row["stored"] / row["raw"], row["raw"] / row["encode_s"] / 1e9,
                          row["raw"] / row["decode_s"] / 1e9)
            for row in rows
            if not row["name"].startswith(REFERENCE + ",")
        }  # fmt: skip
        plots.size_against_speed(
            folder / f"codec-{pair['dtype'].lower()}.svg", points, pair["ideal"] / pair["raw"], OURS
        )
