import torch

from hf_lrcompress.surgery.head_reduction import score_bases, square_roots, value_basis

SCALE = (3 / 6) ** 0.25


def second_moments(seed, rank=6):
    factor = torch.randn(6, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return factor @ factor.T


def score_error(product, queries, keys):
    """E (qᵀk − qᵀPk)² for independent q and k: tr((I − P) K (I − P)ᵀ Q)."""
    left = torch.eye(6, dtype=torch.float64) - product
    return torch.trace(left @ keys @ left.T @ queries)


def test_the_scores_error_is_the_least_that_any_bases_have():
    queries, keys = second_moments(1), second_moments(2)
    query_basis, key_basis = (basis / SCALE for basis in score_bases(queries, keys, 3))
    found = score_error(query_basis.T @ key_basis, queries, keys)
    squares = torch.linalg.eigvals(queries @ keys).real.sort().values
    torch.testing.assert_close(found, squares[:3].sum())


def test_queries_of_a_lower_rank_keep_their_scores():
    """A smaller head divides by a smaller root: the product is larger by the root of the ratio."""
    factor = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    query_basis, key_basis = score_bases(factor @ factor.T, second_moments(2), 3)
    queries = torch.randn(20, 3, dtype=torch.float64) @ factor.T
    keys = torch.randn(20, 6, dtype=torch.float64)
    scores = (queries @ query_basis.T) @ (keys @ key_basis.T).T / 3**0.5
    torch.testing.assert_close(scores, queries @ keys.T / 6**0.5, rtol=1e-3, atol=1e-3)


def test_a_heads_output_error_is_the_least_that_any_basis_has():
    values = second_moments(3)
    weight = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    basis = value_basis(values, weight.T @ weight, 3)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3, dtype=torch.float64))
    given = basis @ values @ basis.T
    fitted = weight @ values @ basis.T @ torch.linalg.inv(given)
    left = weight - fitted @ basis
    root, _ = square_roots(values)
    squares = torch.linalg.svdvals(weight @ root).square()
    torch.testing.assert_close(torch.trace(left @ values @ left.T), squares[3:].sum())


def test_a_head_that_keeps_its_size_is_left_alone():
    identity = torch.eye(6, dtype=torch.float64)
    assert all(torch.equal(basis, identity) for basis in score_bases(second_moments(1), second_moments(2), 6))
    assert torch.equal(value_basis(second_moments(1), second_moments(2), 6), identity)


def test_values_that_never_change_give_a_basis():
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    assert torch.isfinite(value_basis(nothing, second_moments(1), 3)).all()
    assert all(torch.isfinite(basis).all() for basis in score_bases(nothing, nothing, 3))


def test_square_roots_are_roots():
    root, inverse = square_roots(second_moments(5))
    torch.testing.assert_close(root @ root, second_moments(5))
    torch.testing.assert_close(root @ inverse, torch.eye(6, dtype=torch.float64))
