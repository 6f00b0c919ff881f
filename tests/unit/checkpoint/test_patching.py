"""Files that follow the tensors: vocabulary size, dtype, total size, and what cannot be patched."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_checkpoints import weights

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import write_checkpoint


@pytest.mark.parametrize("config", [b"[]", b'{"vocab_size": [12]}', b'"x"'])
def test_a_config_that_is_no_configuration_does_not_stop_a_padded_transfer(repo, tmp_path, sign, config):
    write_checkpoint(tmp_path / "v1", weights())
    write_checkpoint(tmp_path / "chat", weights(rows=14))
    write_checkpoint(tmp_path / "v2", weights(9), files={"config.json": config})
    import_base(repo, str(tmp_path / "v1"), draft=Draft(signature=sign()))
    import_base(repo, str(tmp_path / "v2"), draft=Draft(signature=sign()))
    commit(repo, str(tmp_path / "chat"), base="v1", draft=Draft(signature=sign()))
    transfer(repo, "v1", "v2", draft=Draft(signature=sign()))
    checkout_files(repo, "v2+chat", tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_bytes() == config


def test_a_converted_checkout_loads_in_its_new_dtype(repo, tmp_path, sign):
    source = tmp_path / "source"
    source.mkdir()
    save_file({"w": np.arange(12, dtype=np.float32).reshape(3, 4)}, source / "a.safetensors")
    config = {"dtype": "float32", "text_config": {"torch_dtype": "float32"}, "hidden_size": 4}
    (source / "config.json").write_text(json.dumps(config))
    index = {"metadata": {"total_size": 48}, "weight_map": {"w": "a.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    import_base(repo, str(source), draft=Draft("v", signature=sign()))
    checkout_files(repo, "v", tmp_path / "out", dtype="bfloat16")
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert found == {"dtype": "bfloat16", "text_config": {"torch_dtype": "bfloat16"}, "hidden_size": 4}
    total = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())["metadata"]
    assert total == {"total_size": 24}


def test_half_of_a_surrogate_pair_in_a_config_is_kept(repo, tmp_path, sign):
    config = b'{"dtype": "float32", "chat": "\\ud83d"}'
    write_checkpoint(tmp_path / "v", weights(), files={"config.json": config})
    import_base(repo, str(tmp_path / "v"), draft=Draft(signature=sign()))
    checkout_files(repo, "v", tmp_path / "out", dtype="float16")
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert found == {"dtype": "float16", "chat": "\ud83d"}
