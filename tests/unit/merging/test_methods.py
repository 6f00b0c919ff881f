"""The table of methods, and options that fit it."""

from __future__ import annotations

import pytest

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.by_statistics import MERGERS
from deltavcs.merging.formulas import PLANNERS
from deltavcs.merging.methods import MERGE_METHODS, method_named, settings_for


def test_registry_is_complete() -> None:
    expected = "average weighted task_arithmetic ties dare dare_ties slerp fisher regmean"
    assert list(MERGE_METHODS) == expected.split()
    for name, method in MERGE_METHODS.items():
        assert method.name == name
        assert method.reference
        assert (name in PLANNERS) == (method.statistics is None) == (name not in MERGERS)
    assert method_named("dare-ties") is MERGE_METHODS["dare_ties"]


@pytest.mark.parametrize(
    ("method", "options", "n_models"),
    [
        ("ties", {"densty": 0.2}, 2),
        ("ties", {"density": 0.0}, 2),
        ("ties", {"density": 1.5}, 2),
        ("ties", {"density": [0.2]}, 2),
        ("ties", {"density": "0.2"}, 2),
        ("ties", {"density": True}, 2),
        ("ties", {"weights": -1.0}, 2),
        ("ties", {"scale": float("nan")}, 2),
        ("dare", {"seed": 1.5}, 2),
        ("dare", {"seed": -1}, 2),
        ("weighted", {}, 2),
        ("slerp", {}, 3),
        ("slerp", {"t": 2}, 2),
        ("average", {"weights": [1.0, 2.0]}, 2),
    ],
)
def test_options_that_do_not_fit(method: str, options: dict[str, object], n_models: int) -> None:
    with pytest.raises(InvalidInputError) as caught:
        settings_for(MERGE_METHODS[method], options, n_models)
    assert caught.value.kind is ErrorKind.BAD_ARGUMENT
