"""What the command line says of quantised checkpoints, and of values that left the range of a dtype."""

import json

import pytest
import torch
from safetensors.torch import save_file

W = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def stored(folder, dvx):
    """`q`, 8-bit floats with scales; `t`, fine-tuned from it; `ints`, packed; `wide`, beyond float16."""
    dvx("init")
    for name, factor in (("q", 1.0), ("t", 2.0)):
        packed = torch.full((4, 4), factor).to(torch.float8_e4m3fn)
        write(folder / name, {W: packed, f"{W}_scale_inv": torch.tensor(0.5), "norm.weight": torch.ones(4)})
    stem = W.removesuffix("weight")
    write(
        folder / "ints",
        {f"{stem}qweight": torch.ones(1, 4, dtype=torch.int32), f"{stem}scales": torch.ones(1, 4)},
        quantization_config={"quant_method": "gptq", "bits": 4},
    )
    wide = torch.tensor([1e5, -1e6, 1.0])
    write(folder / "wide", {"norm.weight": wide, "a.weight": torch.tensor([7e4]), "b.weight": torch.ones(2)})
    for name in ("q", "ints", "wide"):
        dvx("import", name)
    dvx("commit", "t", "--base", "q")
    return dvx


def write(folder, state, **config):
    folder.mkdir()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "x", **config}))


def test_a_refusal_names_revision_and_scheme_and_what_helps(stored):
    refused = stored("merge", "q", "t", "--as", "m", code=1)
    assert "error: q is quantised (block-scaled fp8): its stored numbers are no weights" in refused.stderr
    assert "hint: Add --dequantize" in refused.stderr
    refused = stored("checkout", "ints", "--dtype", "float32", "-o", "out", code=1)
    assert "error: ints is quantised (GPTQ, 4 bits)" in refused.stderr
    assert "hint: Use the 16-bit checkpoint" in refused.stderr
    error = stored.error("transfer", "--from", "t", "--to", "wide", code=1)
    assert error["kind"] == "quantised"


def test_what_was_dequantised_is_said(stored):
    assert "dequantized: t (block-scaled fp8)" in stored("checkout", "t", "--dequantize", "-o", "o").stdout
    found = stored.json("merge", "q", "t", "--dequantize", "--as", "m")
    assert found["dequantized"] == {"q": "block-scaled fp8", "t": "block-scaled fp8"}
    assert "merge.dequantized" in stored("show", "m").stdout
    found = stored.json("checkout", "m", "-o", "merged")
    assert found["n_tensors"] == 2


def test_a_diff_says_what_it_leaves_out(stored):
    shown = stored("diff", "q", "t", "--stat").stdout
    assert "quantised, left out of norms and cosines: q: block-scaled fp8" in " ".join(shown.split())
    assert "quantised" not in stored("diff", "q", "t", "--dequantize").stdout


def test_values_beyond_the_range_are_a_note_beside_the_result(stored):
    done = stored("checkout", "wide", "--dtype", "float16", "-o", "half")
    assert "note: 3 finite values became Inf or NaN" in done.stderr
    assert "norm.weight (2), a.weight (1)" in done.stderr
    assert "note" not in done.stdout
    found = stored.json("checkout", "wide", "--dtype", "float16", "-o", "half2")
    assert found["overflowed"] == {"a.weight": 1, "norm.weight": 2}
    assert stored("checkout", "wide", "--dtype", "bfloat16", "-o", "same").stderr == ""
