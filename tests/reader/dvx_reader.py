"""An independent reader of repository format 1, written from docs/spec alone.

Nothing of deltavcs is imported and every constant is restated by hand. It is slow and trusts nothing;
`read_files` gives back the files of a commit. Also a command: `python dvx_reader.py .dvx BRANCH OUT`.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import xxhash
import zstandard
from blake3 import blake3

ITEM_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "BOOL": 8, "U8": 8, "I8": 8,
    "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "C64": 64,
}  # fmt: skip


class Bad(Exception):
    """The repository does not follow the format."""


def need(condition, what):
    if not condition:
        raise Bad(what)


class Reader:
    def __init__(self, root):
        self.root = Path(root)
        form = json.loads((self.root / "format").read_bytes())
        need(form["format"] == 1 and form["object_hash"] == "blake3-256", "unknown format")
        need(form["features"]["read"] == [], "unknown feature")
        self.entries = {}
        for pack in sorted((self.root / "packs").glob("*.pack")):
            for blob, offset in self._pack_entries(pack):
                self.entries.setdefault(blob, (pack, offset))
        self.codecs_seen = set()
        self._cache = {}

    # §6 refs, §3 small objects

    def refs(self):
        found = {}
        for path in sorted((self.root / "refs").rglob("*")):
            if path.is_file():
                text = path.read_text()
                need(len(text) == 65 and text[-1] == "\n", f"{path} is not a ref")
                found[path.relative_to(self.root).as_posix()] = text[:-1]
        return found

    def small(self, oid, domain):
        data = (self.root / "objects" / oid[:2] / oid[2:]).read_bytes()
        magic, version, method, zero, size = struct.unpack_from("<4sBBHI", data)
        need(magic == b"DVXO" and version == 1 and zero == 0 and method in (0, 1), "object header")
        need(size <= 256 << 20, "object too large")
        body = data[12:]
        if method == 1:
            body = zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
        need(len(body) == size, "object length")
        need(blake3(body).hexdigest() == oid, "object id")
        found, _, content = body.partition(b"\0")
        need(found.decode() == domain, f"{found!r} is not a {domain}")
        return json.loads(content)

    def commit(self, oid):
        return self.small(oid, "commit")

    def history(self, oid):
        """Every commit that `oid` reaches, by id."""
        found, todo = {}, [oid]
        while todo:
            at = todo.pop()
            if at not in found:
                found[at] = self.commit(at)
                todo += [p["commit"] for p in found[at]["parents"]]
        return found

    # §3.1 manifests

    def read_files(self, commit):
        """path -> (bytes, executable) of a commit."""
        manifest = self.small(self.commit(commit)["manifest"], "manifest")
        paths = [f["path"] for f in manifest["files"]]
        need(paths == sorted(paths), "files are not sorted")
        out = {}
        for file in manifest["files"]:
            if "blob" in file:
                data = self.blob(file["blob"], "file")
            else:
                data = self.blob(file["header"], "file")
                for key in file["tensors"]:
                    t = manifest["tensors"][key]
                    domain = f"tensor {t['dtype']} [{','.join(map(str, t['shape']))}]"
                    data += self.blob(t["blob"], domain)
            need(len(data) == file["size"], f"{file['path']}: size")
            out[file["path"]] = data, file["executable"]
        return out

    # §4 packs, §5 indexes

    def _pack_entries(self, pack):
        index = pack.with_suffix(".idx")
        data = pack.read_bytes()
        need(data[:16] == b"\x89DVXPACK" + struct.pack("<H6x", 1), "pack header")
        magic, count, size = struct.unpack("<8sQQ", data[-24:])
        need(magic == b"DVXTAIL\n" and size == len(data), "pack trailer")
        need(blake3(data).hexdigest() == pack.stem, "pack id")
        walked = []
        at = 16
        while at < len(data) - 24:
            head = Entry(data, at)
            walked.append((head.blob, at, head))
            at += head.size
        need(at == len(data) - 24 and len(walked) == count, "entries do not fill the pack")
        if index.exists():
            need(self._index_records(index, len(data)) == sorted(
                (bytes.fromhex(b), bytes.fromhex(e.base or "0" * 64), o, e.size, e.raw, e.codec)
                for b, o, e in walked
            ), "the index differs from the pack")  # fmt: skip
        return [(b, o) for b, o, _ in walked]

    @staticmethod
    def _index_records(index, pack_bytes):
        data = index.read_bytes()
        need(data[:16] == b"\x89DVXIDX\n" + struct.pack("<H6x", 1), "index header")
        count, size = struct.unpack_from("<QQ", data, 16)
        need(size == pack_bytes and len(data) == 32 + 96 * count + 8, "index lengths")
        need(struct.unpack("<Q", data[-8:])[0] == xxhash.xxh3_64_intdigest(data[:-8]), "index checksum")
        return [struct.unpack_from("<32s32sQQQB7x", data, 32 + 96 * i) for i in range(count)]

    def blob(self, oid, domain=None, depth=0):
        need(depth <= 64, "chain too deep")
        if oid not in self._cache:
            pack, offset = self.entries[oid]
            entry = Entry(pack.read_bytes(), offset)
            self.codecs_seen.add(entry.codec)
            self._cache[oid] = entry.domain, self._decode(entry, depth)
        found, raw = self._cache[oid]
        need(domain in (None, found), f"{oid} is a {found}, not a {domain}")
        need(blake3(found.encode() + b"\0" + raw).hexdigest() == oid, "blob id")
        return raw

    def domain(self, oid):
        pack, offset = self.entries[oid]
        return Entry(pack.read_bytes(), offset).domain

    def _decode(self, entry, depth):
        if entry.codec == 255:
            raw = self._derive(entry, depth)
            need(all(length == 0 for length, _ in entry.chunks), "a derived entry has payloads")
        else:
            raw = b""
            base = self.blob(entry.base, depth=depth + 1) if entry.base else None
            if base is not None:
                need(self.domain(entry.base).split()[:2] == entry.domain.split()[:2], "base of another dtype")
            for i, payload in enumerate(entry.payloads):
                start = i << entry.log2
                size = min(1 << entry.log2, entry.raw - start)
                piece = None if base is None else base[start : start + size].ljust(size, b"\0")
                raw += decode_chunk(entry.codec, dtype_of(entry.domain), entry.side, payload, size, piece)
        need(len(raw) == entry.raw, "raw length")
        for i, (_, checksum) in enumerate(entry.chunks):
            chunk = raw[i << entry.log2 : (i + 1) << entry.log2]
            need(xxhash.xxh3_64_intdigest(chunk) == checksum, "chunk checksum")
        return raw

    # §4.1 and v1-derived

    def _derive(self, entry, depth):
        side = json.loads(entry.side)
        need(side["op"] == "linear", f"operator {side['op']}")
        dtype = dtype_of(entry.domain)
        count = entry.raw * 8 // ITEM_BITS[dtype]
        inputs = []
        for item in side["inputs"]:
            raw = self.blob(item["blob"], depth=depth + 1)
            values = widen(raw, dtype_of(self.domain(item["blob"])))[: item["elements"]][:count]
            inputs.append(np.concatenate([values, np.zeros(count - len(values))]))
        stack = []
        with np.errstate(all="ignore"):
            for token in side["params"]["program"]:
                if isinstance(token, int):
                    stack.append(inputs[token])
                elif isinstance(token, list):
                    h = float.fromhex(token[1])
                    need(h.hex() == token[1], "scalar spelling")
                    stack.append(stack.pop() * h if token[0] == "*" else stack.pop() / h)
                else:
                    b, a = stack.pop(), stack.pop()
                    stack.append(a + b if token == "+" else a - b)
        need(len(stack) == 1, "program")
        return narrow(stack[0], dtype)


class Entry:
    def __init__(self, data, at):
        (magic, version, self.codec, self.log2, zero, blob, base, self.raw, payload, n_side, n_chunks,
         n_domain, checksum) = struct.unpack_from("<4sBBBB32s32sQQIIH6xQ", data, at)  # fmt: skip
        need(magic == b"DVXE" and version == 1 and zero == 0, "entry header")
        need(16 <= self.log2 <= 26 and n_chunks == -(-self.raw >> self.log2), "entry lengths")
        self.blob, self.base = blob.hex(), base.hex() if any(base) else None
        end = at + 112 + n_domain + n_side + 12 * n_chunks
        signed = data[at : at + 104] + data[at + 112 : end]
        need(xxhash.xxh3_64_intdigest(signed) == checksum, "entry checksum")
        self.domain = data[at + 112 : at + 112 + n_domain].decode("ascii")
        self.side = data[at + 112 + n_domain : at + 112 + n_domain + n_side]
        table = at + 112 + n_domain + n_side
        self.chunks = [struct.unpack_from("<IQ", data, table + 12 * i) for i in range(n_chunks)]
        need(sum(length for length, _ in self.chunks) == payload, "payload length")
        self.payloads, start = [], end
        for length, _ in self.chunks:
            self.payloads.append(data[start : start + length])
            start += length
        self.size = start - at


def dtype_of(domain):
    return "U8" if domain == "file" else domain.split()[1]


# v1-codec


def decode_chunk(codec, dtype, side, payload, size, base):
    if codec == 0:
        need(len(payload) == size, "raw length")
        return payload
    if codec in (1, 2):
        return planes(payload, dtype, size, base if codec == 2 else None)
    need(codec in (3, 4), f"codec {codec}")
    if payload[0] == 1:
        return planes(payload[1:], dtype, size, base if codec == 4 else None)
    if payload[0] == 2:
        return payload[1:]
    need(payload[0] == 0, "mode")
    return entropy_coded(codec, dtype, side, payload, size, base)


def planes(payload, dtype, size, base):
    width = max(1, ITEM_BITS[dtype] // 8)
    need(zstandard.frame_content_size(payload) == size, "stated size")
    raw = zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    out = np.frombuffer(raw, np.uint8).reshape(width, -1).T.tobytes()
    if base is not None:
        out = (np.frombuffer(out, np.uint8) ^ np.frombuffer(base, np.uint8)).tobytes()
    return out


FLOATS = {"BF16": (16, 7, 8), "F16": (16, 10, 5), "F32": (32, 23, 8)}  # width, mantissa, exponent


def entropy_coded(codec, dtype, side, payload, size, base):
    version, flags, top, starts = struct.unpack_from("<BBHH", side)
    need(version == 1 and flags <= (dtype == "F32"), "side header")
    narrow_f32 = bool(flags & 1)
    coded = "BF16" if narrow_f32 else dtype
    width, mantissa, exponent = FLOATS[coded]
    word = {16: "<u2", 32: "<u4"}[width]
    count = size // (ITEM_BITS[dtype] // 8)
    n_tokens = 4 * width if codec == 4 else 64
    tables = read_tables(side[6:], n_tokens, 1 + bin(starts).count("1"))
    if codec == 4:
        raw = np.frombuffer(base, {"BF16": "<u2", "F16": "<u2", "F32": "<u4"}[dtype])
        old = ((raw >> 16) if narrow_f32 else raw).astype(np.uint64)
        field = (old >> np.uint64(mantissa)).astype(np.int64) & ((1 << exponent) - 1)
        context = np.clip(top - field, 0, 16)
        table_of = np.array([bin(starts & ((1 << c) - 1)).count("1") for c in range(17)])
        which = table_of[context]
    else:
        need(starts == 0, "EXP has one table")
        which = np.zeros(count, np.int64)

    # The sections
    n_sections = payload[1]
    need(1 <= n_sections <= 16 and payload[2:4] == b"\0\0", "section count")
    n_words = struct.unpack_from(f"<{n_sections}I", payload, 4)
    at = 4 + 4 * n_sections
    states = np.frombuffer(payload, "<u4", 32 * n_sections, at).reshape(n_sections, 32)
    need(bool((states >= 1 << 16).all()), "coder begins where none ends")
    at += 128 * n_sections
    words = np.frombuffer(payload, "<u2", sum(n_words), at)
    at += 2 * sum(n_words)
    spare_bits, n_planes = (1 + mantissa) % 8, (1 + mantissa) // 8
    raw_bits = token_bits(codec, width, n_tokens, spare_bits, exponent)
    n_groups = (count + 31) // 32
    per_section = (n_groups + n_sections - 1) // n_sections
    tokens, raws = np.zeros(count, np.int64), np.zeros(count, np.int64)
    first_word = 0
    for s in range(n_sections):
        low, high = min(32 * per_section * s, count), min(32 * per_section * (s + 1), count)
        section = words[first_word : first_word + n_words[s]].tolist()
        first_word += n_words[s]
        tokens[low:high], raws[low:high] = rans(
            section, states[s].tolist(), which[low:high], tables, raw_bits
        )

    if codec == 4:
        new = undo_difference(tokens, raws, old, width, n_tokens)
        need(at == len(payload), "payload length")
    else:
        low = np.zeros(count, np.uint64)
        for j in range(n_planes):
            low |= np.frombuffer(payload, np.uint8, count, at + j * count).astype(np.uint64) << np.uint64(
                8 * j
            )
        need(at + n_planes * count == len(payload), "payload length")
        escape = tokens == n_tokens - 1
        distance = np.where(escape, raws >> spare_bits, tokens)
        spare = raws & ((1 << spare_bits) - 1)
        field = ((top - distance) % (1 << exponent)).astype(np.uint64)
        both = low | spare.astype(np.uint64) << np.uint64(8 * n_planes)
        sign = both >> np.uint64(mantissa)
        new = sign << np.uint64(width - 1) | field << np.uint64(mantissa)
        new |= both & np.uint64((1 << mantissa) - 1)
    if narrow_f32:
        return (new.astype("<u4") << np.uint32(16)).astype("<u4").tobytes()
    return new.astype(word).tobytes()


def token_bits(codec, width, n_tokens, spare_bits, exponent):
    if codec == 4:
        return [0] * 16 + [t // 4 - 2 for t in range(16, n_tokens - 1)] + [width]
    return [spare_bits] * 63 + [spare_bits + exponent]


def undo_difference(tokens, raws, old, width, n_tokens):
    mask = (1 << width) - 1
    k = np.maximum(tokens // 4 - 2, 0)
    value = np.where(tokens < 16, tokens, ((4 + (tokens & 3)) << k) + raws)
    value = np.where(tokens == n_tokens - 1, raws, value)
    delta = (value >> 1) ^ np.where(value & 1, mask, 0)

    def order(p):
        return np.where(p >> (width - 1), p ^ ((1 << (width - 1)) - 1), p)

    return order((order(old.astype(np.int64)) + delta) & mask).astype(np.uint64)


def read_tables(data, n_tokens, n_tables):
    bits = "".join(f"{b:08b}"[::-1] for b in data)
    at = 0

    def field(n):
        nonlocal at
        need(at + n <= len(bits), "side too short")
        at += n
        return int(bits[at - n : at][::-1], 2) if n else 0

    tables = []
    for _ in range(n_tables):
        f = [0] * n_tokens
        f[-1] = field(11) + 1
        left, guess = 2048 - f[-1], 256
        for t in range(n_tokens - 1):
            if left <= 0:
                break
            n = max(0, guess.bit_length() - 2)
            q = 0
            while field(1):
                q += 1
            v = q << n | field(n)
            guess += v // 2 if v % 2 == 0 else -((v + 1) // 2)
            need(0 <= guess <= left, "frequency")
            f[t] = guess
            left -= guess
        need(left == 0, "frequencies do not add up")
        tables.append(f)
    need(len(bits) - at < 8 and "1" not in bits[at:], "side too long")
    return tables


def rans(words, states, which, tables, raw_bits):
    """Tokens and raw bits of one section, lane by lane as §5 says."""
    lookup = [np.repeat(np.arange(len(f)), f).tolist() for f in tables]
    below = [np.cumsum([0, *f[:-1]]).tolist() for f in tables]
    tokens, raws = [], []
    next_word = 0

    def refill(x):
        nonlocal next_word
        if x < 1 << 16:
            need(next_word < len(words), "out of words")
            x = x << 16 | words[next_word]
            next_word += 1
        return x

    which = which.tolist()
    for first in range(0, len(which), 32):
        group = which[first : first + 32]
        found = []
        for lane, table in enumerate(group):
            x = states[lane]
            slot = x & 2047
            token = lookup[table][slot]
            states[lane] = refill(tables[table][token] * (x >> 11) + slot - below[table][token])
            found.append(token)
        raw = [0] * len(group)
        for lane, token in enumerate(found):
            if raw_bits[token] > 0:
                j = min(raw_bits[token], 16)
                raw[lane] = states[lane] & ((1 << j) - 1)
                states[lane] = refill(states[lane] >> j)
        for lane, token in enumerate(found):
            if raw_bits[token] > 16:
                j = raw_bits[token] - 16
                raw[lane] += (states[lane] & ((1 << j) - 1)) << 16
                states[lane] = refill(states[lane] >> j)
        tokens += found
        raws += raw
    need(all(x == 1 << 16 for x in states) and next_word == len(words), "coder does not end where it began")
    return tokens, raws


# v1-derived §2: exponent bits, fraction bits, bias, overflow pattern, NaN pattern, bytes

ARITHMETIC = {
    "F64": (11, 52, 1023, 0x7FF0000000000000, 0x7FF8000000000000, 8),
    "F32": (8, 23, 127, 0x7F800000, 0x7FC00000, 4),
    "F16": (5, 10, 15, 0x7C00, 0x7E00, 2),
    "BF16": (8, 7, 127, 0x7F80, 0x7FC0, 2),
    "F8_E5M2": (5, 2, 15, 0x7C, 0x7E, 1),
    "F8_E4M3": (4, 3, 7, 0x7F, 0x7F, 1),
}


def widen(raw, dtype):
    """Values from the definition of the format; exact."""
    if dtype in ("F64", "F32"):
        with np.errstate(invalid="ignore"):  # signalling NaNs
            return np.frombuffer(raw, {"F64": "<f8", "F32": "<f4"}[dtype]).astype(np.float64)
    _, fraction, bias, overflow, nan, size = ARITHMETIC[dtype]
    pattern = np.frombuffer(raw, f"<u{size}").astype(np.int64)
    magnitude = pattern & ((1 << (8 * size - 1)) - 1)
    field, rest = magnitude >> fraction, magnitude & ((1 << fraction) - 1)
    value = np.where(
        field == 0,
        np.ldexp(rest.astype(np.float64), 1 - bias - fraction),
        np.ldexp((rest + (1 << fraction)).astype(np.float64), (field - bias - fraction).astype(np.int32)),
    )
    value = np.where(magnitude == overflow, np.inf, value)
    value = np.where((magnitude > overflow) | (magnitude == nan), np.nan, value)
    return np.where(pattern >> (8 * size - 1), -value, value)


def narrow(values, dtype):
    """One rounding to nearest even, by scaling to integers: pattern = round(x / step) + offset."""
    _, fraction, bias, overflow, nan, size = ARITHMETIC[dtype]
    if dtype == "F64":
        out = values.view(np.uint64).copy()
        out[np.isnan(values)] = nan
        return out.astype("<u8").tobytes()
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(values), np.abs(values), 0.0)
        _, power = np.frexp(finite)
        lowest = 1 - bias
        exponent = np.where(finite == 0, lowest, np.maximum(power - 1, lowest)).astype(np.int64)
        steps = np.rint(np.ldexp(finite, (fraction - exponent).astype(np.int32))).astype(np.int64)
        pattern = np.minimum(steps + ((exponent - lowest) << fraction), overflow)
    pattern = np.where(np.isinf(values), overflow, pattern)
    pattern |= np.signbit(values).astype(np.int64) << (8 * size - 1)
    pattern = np.where(np.isnan(values), nan, pattern)
    return pattern.astype(f"<u{size}").tobytes()


def main(root, branch, out):
    reader = Reader(root)
    for path, (data, executable) in reader.read_files(reader.refs()[f"refs/heads/{branch}"]).items():
        target = Path(out) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        if executable:
            target.chmod(target.stat().st_mode | 0o111)


if __name__ == "__main__":
    main(*sys.argv[1:])
