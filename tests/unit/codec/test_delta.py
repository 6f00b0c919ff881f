"""Tables of differences."""

import numpy as np

from deltavcs.codec import CodecId, make_encoder
from deltavcs.testing.checkpoints import raw_tensor


def test_a_lone_infinity_does_not_spoil_the_contexts() -> None:
    base = np.frombuffer(raw_tensor("BF16", [100_000]).data, "<u2").copy()
    target = base + np.random.default_rng(1).integers(0, 4, base.size).astype("<u2")
    clean = make_encoder(CodecId.DELTA, "BF16", [(target.tobytes(), base.tobytes())])
    size = len(clean.encode(target.tobytes(), base.tobytes()))
    base[17] = 0x7F80
    spoilt = make_encoder(CodecId.DELTA, "BF16", [(target.tobytes(), base.tobytes())])
    assert len(spoilt.encode(target.tobytes(), base.tobytes())) < size * 1.01
