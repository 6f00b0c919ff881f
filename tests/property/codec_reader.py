"""An independent reader of codec payloads: docs/spec/v1-codec.md restated by hand, one element at a time."""

import struct

FORMATS = {"BF16": (16, 7, 8), "F16": (16, 10, 5), "F32": (32, 23, 8)}


class Damaged(Exception):
    pass


def bits_of(data: bytes):
    for byte in data:
        for i in range(8):
            yield byte >> i & 1


def field(bits, n: int) -> int:
    try:
        return sum(next(bits) << i for i in range(n))
    except (StopIteration, RuntimeError) as exc:
        raise Damaged from exc


def read_table(bits, n_tokens: int) -> list[int]:
    freqs = [0] * n_tokens
    freqs[-1] = field(bits, 11) + 1
    left, guess = 2048 - freqs[-1], 256
    for t in range(n_tokens - 1):
        if not left:
            break
        n, q = max(0, guess.bit_length() - 2), 0
        while field(bits, 1):
            q += 1
        v = (q << n) | field(bits, n)
        guess += v // 2 if v % 2 == 0 else -((v + 1) // 2)
        if not 0 <= guess <= left:
            raise Damaged
        freqs[t] = guess
        left -= guess
    if left:
        raise Damaged
    return freqs


def read_side(side: bytes, n_tokens: int):
    version, flags, top, starts = struct.unpack_from("<BBHH", side)
    assert version == 1
    table_of = [0]
    for i in range(16):
        table_of.append(table_of[-1] + (starts >> i & 1))
    bits = bits_of(side[6:])
    tables = [read_table(bits, n_tokens) for _ in range(table_of[-1] + 1)]
    rest = list(bits)
    assert len(rest) < 8
    assert not any(rest)
    return flags & 1, top, table_of, tables


def symbols(freqs: list[int]) -> list[tuple[int, int, int]]:
    slots, cum = [], 0
    for t, f in enumerate(freqs):
        slots += [(t, f, cum)] * f
        cum += f
    return slots


def read_section(states, words, tables_of_elements, tables, n_raw_of):
    """Yield (token, raw) per element."""
    if min(states) < 1 << 16:
        raise Damaged
    x, at, found = list(states), 0, []
    slots = [symbols(freqs) for freqs in tables]
    for start in range(0, len(tables_of_elements), 32):
        group = tables_of_elements[start : start + 32]
        token, raw = [0] * len(group), [0] * len(group)
        for step in "ABC":
            for lane, table in enumerate(group):
                if step == "A":
                    slot = x[lane] & 2047
                    token[lane], f, c = slots[table][slot]
                    x[lane] = f * (x[lane] >> 11) + slot - c
                else:
                    k = n_raw_of(token[lane])
                    j = min(k, 16) if step == "B" else k - 16
                    if j <= 0:
                        continue
                    raw[lane] += (x[lane] & ((1 << j) - 1)) << (0 if step == "B" else 16)
                    x[lane] >>= j
                if x[lane] < 1 << 16:
                    if at == len(words):
                        raise Damaged
                    x[lane] = x[lane] << 16 | words[at]
                    at += 1
        found += zip(token, raw, strict=True)
    if at != len(words) or any(state != 1 << 16 for state in x):
        raise Damaged
    return found


def read_mode_0(payload: bytes, tables_of_elements, tables, n_raw_of, n_plane_bytes: int):
    n, s = len(tables_of_elements), payload[1]
    counts = struct.unpack_from(f"<{s}I", payload, 4)
    at, words_at, found = 4 + 4 * s, 4 + 132 * s, []
    groups = (n + 31) // 32
    q = (groups + s - 1) // s
    for i, count in enumerate(counts):
        states = struct.unpack_from("<32I", payload, at + 128 * i)
        words = struct.unpack_from(f"<{count}H", payload, words_at)
        words_at += 2 * count
        part = tables_of_elements[min(32 * q * i, n) : min(32 * q * (i + 1), n)]
        found += read_section(states, words, part, tables, n_raw_of)
    if len(payload) != words_at + n_plane_bytes:
        raise Damaged
    return found, payload[words_at:]


def order(p: int, w: int) -> int:
    return p ^ ((1 << (w - 1)) - 1) if p >> (w - 1) else p


def read_delta(dtype: str, side: bytes, payload: bytes, base: list[int]) -> list[int]:
    """Patterns of a mode-0 chunk that is not narrow."""
    w, m, e = FORMATS[dtype]
    n_tokens = 4 * w
    narrow, top, table_of, tables = read_side(side, n_tokens)
    assert not narrow

    def n_raw(t: int) -> int:
        return w if t == n_tokens - 1 else 0 if t < 16 else t // 4 - 2

    contexts = [min(max(top - (b >> m & ((1 << e) - 1)), 0), 16) for b in base]
    pairs, _ = read_mode_0(payload, [table_of[c] for c in contexts], tables, n_raw, 0)
    out = []
    for (t, raw), b in zip(pairs, base, strict=True):
        z = raw if t == n_tokens - 1 else t if t < 16 else ((4 + (t & 3)) << n_raw(t)) + raw
        delta = z >> 1 ^ ((1 << w) - 1 if z & 1 else 0)
        out.append(order((order(b, w) + delta) % (1 << w), w))
    return out


def read_exp(dtype: str, side: bytes, payload: bytes, n: int) -> list[int]:
    """Patterns of a mode-0 chunk that is not narrow."""
    w, m, e = FORMATS[dtype]
    n_planes, r = (1 + m) // 8, (1 + m) % 8
    narrow, top, _, tables = read_side(side, 64)
    assert not narrow
    pairs, planes = read_mode_0(payload, [0] * n, tables, lambda t: r + e if t == 63 else r, n_planes * n)
    out = []
    for i, (t, raw) in enumerate(pairs):
        distance, spare = (raw >> r, raw & ((1 << r) - 1)) if t == 63 else (t, raw)
        both = spare << (8 * n_planes) | sum(planes[j * n + i] << (8 * j) for j in range(n_planes))
        exponent = (top - distance) % (1 << e)
        out.append((both >> m) << (w - 1) | exponent << m | both & ((1 << m) - 1))
    return out
