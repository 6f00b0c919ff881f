"""Builds the optional native kernels; everything else is declared in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup

CODEC = Path("deltavcs/codec/csrc")


def native(name: str, csrc: Path, *flags: str, headers: tuple[Path, ...] = ()) -> Extension:
    """An extension of every C file in `csrc`; without a compiler, Python and numpy do the work.

    `headers` are folders of other extensions' headers.
    """
    included = [path for f in (csrc, *headers) for p in ("*.h", "*.inc") for path in f.glob(p)]
    return Extension(
        name,
        sources=sorted(str(path) for path in csrc.glob("*.c")),
        depends=sorted(map(str, included)),
        include_dirs=[str(path) for path in headers],
        libraries=["m"] if os.name == "posix" else [],
        extra_compile_args=["-O3", "-std=c11", "-fno-strict-aliasing", *flags],
        optional=True,
    )


setup(
    ext_modules=[
        native("deltavcs.codec._native", CODEC),
        # Reads packs; what it decodes with is in the codec's extension, found when it is imported.
        native("deltavcs.objects._native", Path("deltavcs/objects/csrc"), headers=(CODEC,)),
        # Results are specified to the bit: no operation may be fused or reordered.
        native(
            "deltavcs.tensors._native",
            Path("deltavcs/tensors/csrc"),
            "-ffp-contract=off",
            "-fno-fast-math",
        ),
    ]
)
