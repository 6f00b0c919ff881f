"""SLERP: along the great circle between two models. A `linear` program once its coefficients are known."""

from __future__ import annotations

import math

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.blocks import TensorSource, dot_products
from deltavcs.merging.settings import DerivedPlan, Settings
from deltavcs.operators.parse import encode_program

COLLINEAR = 0.9995
"""|cos Ω| above which the arc is taken as straight: sin Ω is too small to divide by."""


def plan_slerp(source: TensorSource, settings: Settings) -> DerivedPlan:
    """Plan spherical linear interpolation of two tensors, each taken as one vector.

        cos Ω = a·b / (‖a‖ ‖b‖)
        out = (sin((1−t)Ω) / sin Ω)·a + (sin(tΩ) / sin Ω)·b

    When |cos Ω| > 0.9995 or a vector is zero: out = (1−t)·a + t·b. The norms are not interpolated apart.
    One pass over the tensor finds Ω; the two coefficients are stored, so their rounding is settled once.

    Reference: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985.

    Raises:
        InvalidInputError: `bad-checkpoint` if the tensors hold values that are not finite.
    """
    first, second = _coefficients(source, settings.t)
    return DerivedPlan("linear", encode_program([0, ("*", first), 1, ("*", second), "+"]))


def _coefficients(source: TensorSource, t: float) -> tuple[float, float]:
    aa, bb, ab = dot_products(source)
    if not all(map(math.isfinite, (aa, bb, ab))):
        raise InvalidInputError(
            f"tensor {source.name!r} holds values that are not finite", kind=ErrorKind.BAD_CHECKPOINT
        )
    norms = math.sqrt(aa) * math.sqrt(bb)
    cosine = max(-1.0, min(1.0, ab / norms)) if norms > 0.0 else 1.0
    if abs(cosine) > COLLINEAR:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
