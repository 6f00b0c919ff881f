"""Norms and scalar products of updates from their factors, against the matrices."""

from __future__ import annotations

import numpy as np
import pytest

from deltavcs.adapters.updates import Update


def random(rows: int, columns: int, rank: int, seed: int) -> Update:
    rng = np.random.default_rng(seed)
    return Update(rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns)))


def matrix(update: Update) -> np.ndarray:
    return update.left @ update.right


@pytest.mark.parametrize(("rows", "columns", "rank"), [(7, 5, 2), (3, 9, 4), (2, 2, 5), (6, 6, 1)])
def test_norm_and_dot_are_those_of_the_matrices(rows, columns, rank) -> None:
    one, other = random(rows, columns, rank, 1), random(rows, columns, rank + 1, 2)
    assert one.norm() == pytest.approx(np.linalg.norm(matrix(one)))
    assert one.dot(other) == pytest.approx(np.sum(matrix(one) * matrix(other)))
    assert one.minus(other).norm() == pytest.approx(np.linalg.norm(matrix(one) - matrix(other)))
    assert (one.shape, one.rank) == ((rows, columns), rank)


def test_a_difference_of_the_same_by_other_factors_keeps_its_digits() -> None:
    one = random(40, 30, 3, 1)
    mix = np.random.default_rng(2).normal(size=(3, 3))
    same = Update(one.left @ mix, np.linalg.inv(mix) @ one.right)
    # By leftᵀ·left and right·rightᵀ it would be 1e-8 of the norm.
    assert one.minus(same).norm() < 1e-13 * one.norm()


def test_rows_are_taken_one_block_at_a_time() -> None:
    update, other = random(10, 4, 2, 1), np.random.default_rng(3).normal(size=(10, 4))
    parts = [update.dot_rows(at, other[at : at + 3]) for at in range(0, 10, 3)]
    assert sum(parts) == pytest.approx(np.sum(matrix(update) * other))
