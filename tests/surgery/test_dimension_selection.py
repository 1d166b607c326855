import itertools

import pytest
import torch

from hf_lrcompress.surgery.dimension_selection import explained_share, pivoted_cholesky


def covariance_of(size=8, rank=8):
    factor = torch.randn(size, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    return factor @ factor.T


def explained_by_hand(covariance, keep):
    """The variance that least squares from the kept dimensions leaves, one dimension after another."""
    left = 0.0
    for row in range(len(covariance)):
        solution = torch.linalg.lstsq(covariance[keep][:, keep], covariance[keep, row]).solution
        left += covariance[row, row] - covariance[row, keep] @ solution
    return 1 - left.item() / covariance.trace().item()


def test_every_choice_is_the_one_that_explains_most_with_those_before():
    covariance = covariance_of()
    chosen = []
    for count in range(1, 9):
        others = [j for j in range(8) if j not in chosen]
        chosen.append(max(others, key=lambda j: explained_by_hand(covariance, [*chosen, j])))
        assert pivoted_cholesky(covariance, count).tolist() == sorted(chosen)


@pytest.mark.parametrize("keep", list(itertools.combinations(range(8), 3)))
def test_the_explained_share_is_that_of_least_squares(keep):
    share = explained_share(covariance_of(), torch.tensor(keep))
    assert share == pytest.approx(explained_by_hand(covariance_of(), list(keep)))


def test_more_dimensions_than_rank_explain_everything():
    keep = pivoted_cholesky(covariance_of(rank=3), 5)
    assert len(set(keep.tolist())) == 5
    assert explained_share(covariance_of(rank=3), keep) == pytest.approx(1)


def test_dimensions_that_never_change_come_last():
    covariance = covariance_of()
    covariance[2] = 0
    covariance[:, 2] = 0
    assert 2 not in pivoted_cholesky(covariance, 7)
    assert pivoted_cholesky(torch.zeros(4, 4), 2).shape == (2,)
