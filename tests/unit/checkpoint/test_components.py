"""Weights beside a checkpoint's own, matched across shards and variants."""

from __future__ import annotations

import pytest

from deltavcs.checkpoint.components import component_of, is_other_weights, match_components, weights_apart
from deltavcs.objects.model import FileEntry, Manifest, TensorEntry
from deltavcs.oid import BlobId

BLOB = BlobId("0" * 64)


def manifest(*keys: str, own: str = "model.safetensors", plain: tuple[str, ...] = ()) -> Manifest:
    """Tensors by key; those without a path are in the file `own`."""
    by_file: dict[str, list[str]] = {}
    for key in keys:
        by_file.setdefault(key.partition("::")[0] if "::" in key else own, []).append(key)
    files = [FileEntry(path, 1, BLOB, tuple(names)) for path, names in by_file.items()]
    files += [FileEntry(path, 1, BLOB) for path in plain]
    return Manifest(tuple(files), {k: TensorEntry(BLOB, "F32", (1,)) for k in keys})


def test_shards_of_a_component_are_one() -> None:
    one = manifest("unet/m.safetensors::a", "unet/m.safetensors::b")
    two = manifest("unet/m-00001-of-00002.safetensors::a", "unet/m-00002-of-00002.safetensors::b")
    assert component_of("unet/m-00002-of-00002.safetensors::b") == "unet/m"
    found = match_components(one, two)
    assert found.names == {k: k.replace("m.", f"m-0000{i}-of-00002.") for i, k in enumerate(one.tensors, 1)}
    assert (found.lacking, found.unknown) == ((), ())


def test_the_only_component_of_a_folder_is_the_same_by_another_name() -> None:
    one, two = manifest("unet/m.safetensors::a"), manifest("unet/m.fp16.safetensors::a")
    assert match_components(one, two).names == {"unet/m.safetensors::a": "unet/m.fp16.safetensors::a"}
    both = manifest("unet/m.safetensors::a", "unet/m.fp16.safetensors::a")
    assert match_components(both, two).lacking == ("unet/m",)


def test_a_component_that_one_lacks_is_never_another() -> None:
    lead = manifest("w", "2_Dense/model.safetensors::linear.weight")
    other = manifest("w", "vae/model.safetensors::a")
    found = match_components(lead, other)
    assert (found.lacking, found.unknown) == (("2_Dense/model",), ("vae/model",))
    assert found.names == {}
    assert [x.partition(" ")[0] for x in weights_apart([lead, other], [found])] == [
        "2_Dense/model",
        "vae/model",
    ]


def test_own_tensors_are_found_in_a_file_that_is_not_the_only_one() -> None:
    lead = manifest("a", own="vae.safetensors")
    other = manifest("vae.safetensors::a", "vae.fp16.safetensors::a")
    assert match_components(lead, other).names == {"a": "vae.safetensors::a"}
    assert match_components(other, lead).names == {"vae.safetensors::a": "a"}


@pytest.mark.parametrize(
    "path", ["pytorch_model.bin", "onnx/model.onnx", "m.gguf", "tf_model.h5", "a/x.ckpt"]
)
def test_weights_of_other_formats_are_named(path) -> None:
    assert is_other_weights(path)
    assert weights_apart([manifest("w", plain=(path, "config.json"))], []) == (
        f"{path} (kept as it is: not safetensors)",
    )


@pytest.mark.parametrize(
    "path", ["training_args.bin", "optimizer.pt", "rng_state_0.pth", "scheduler.pt", "x.json"]
)
def test_the_state_of_a_trainer_is_no_weights(path) -> None:
    assert not is_other_weights(path)
