"""Builds the optional native kernels; everything else is declared in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup


def kernels(name: str, csrc: Path, *flags: str) -> Extension:
    """An extension of every C file in `csrc`; without a compiler, numpy does the work."""
    return Extension(
        name,
        sources=sorted(str(path) for path in csrc.glob("*.c")),
        depends=sorted(str(path) for pattern in ("*.h", "*.inc") for path in csrc.glob(pattern)),
        libraries=["m"] if os.name == "posix" else [],
        extra_compile_args=["-O3", "-std=c11", "-fno-strict-aliasing", *flags],
        optional=True,
    )


setup(
    ext_modules=[
        kernels("deltavcs.codec._native", Path("deltavcs/codec/csrc")),
        # Results are specified to the bit: no operation may be fused or reordered.
        kernels(
            "deltavcs.tensors._native",
            Path("deltavcs/tensors/csrc"),
            "-ffp-contract=off",
            "-fno-fast-math",
        ),
    ]
)
