"""Smaller attention heads that compute nearly the same scores and outputs: every head is given a basis of its own.

A head of d dimensions computes scores qᵀk and outputs W Σ a v. With bases B_q, B_k, B_v of fewer rows its queries, keys and
values become B_q q, B_k k and B_v v: the head stays the head it was, in fewer dimensions.
"""

import torch

SMALLEST = 1e-9
"""Eigenvalues below this share of the largest one count as that share."""


def score_bases(queries: torch.Tensor, keys: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The bases in which the scores of queries with keys change least.

    For independent q and k the expected square of qᵀk − (B_q q)ᵀ(B_k k) is least where B_qᵀB_k = Q^-½ U S Vᵀ K^-½, with U, S, V
    the `size` largest singular triples of Q^½ K^½. Both are multiplied by (size / d)^¼: the smaller head divides its scores by
    the root of `size`, the larger one divided by the root of d.

    Args:
        queries (`torch.Tensor` of shape `(d, d)`): Q, the second moments of the queries; summed, where several share the keys.
        keys (`torch.Tensor` of shape `(d, d)`): K, the second moments of the keys.
        size (`int`): Dimensions of the smaller head.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: B_q and B_k of shape `(size, d)`.
    """
    if size == len(queries):
        return _identity(queries), _identity(keys)
    query_root, query_inverse = square_roots(queries)
    key_root, key_inverse = square_roots(keys)
    left, values, right = torch.linalg.svd(query_root @ key_root)
    weights = values[:size].sqrt() * (size / len(queries)) ** 0.25
    return weights[:, None] * (left.T[:size] @ query_inverse), weights[:, None] * (right[:size] @ key_inverse)


def value_basis(values: torch.Tensor, output: torch.Tensor, size: int) -> torch.Tensor:
    """The basis in which what a head adds to the stream changes least.

    The expected square of W (x − A B x) is least where B spans Uᵀ C^-½, with U the `size` first eigenvectors of C^½ Wᵀ W C^½: the
    best approximation of W of that rank, under the distribution of x.

    Args:
        values (`torch.Tensor` of shape `(d, d)`): C, the covariance of the head's output x, before W.
        output (`torch.Tensor` of shape `(d, d)`): WᵀW; summed, where several heads share the values.
        size (`int`): Dimensions of the smaller head.

    Returns:
        `torch.Tensor` of shape `(size, d)`: B, with orthonormal rows.
    """
    if size == len(values):
        return _identity(values)
    root, inverse = square_roots(values)
    _, vectors = torch.linalg.eigh(root @ output @ root)
    return torch.linalg.qr(inverse @ vectors[:, -size:]).Q.T


def square_roots(moment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The symmetric root of a matrix of second moments, and the root's inverse.

    Args:
        moment (`torch.Tensor` of shape `(size, size)`): Symmetric, no eigenvalue below 0 but for rounding.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: C^½ and C^-½.
    """
    values, vectors = torch.linalg.eigh(moment)
    smallest = (SMALLEST * values.max()).clamp_min(1e-30)
    values = values.clamp_min(smallest)
    return (vectors * values.sqrt()) @ vectors.T, (vectors * values.rsqrt()) @ vectors.T


def _identity(like: torch.Tensor) -> torch.Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)
