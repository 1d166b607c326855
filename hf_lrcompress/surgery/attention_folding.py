"""Attention in fewer dimensions: its projections read the kept dimensions, and every head has a basis of its own."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from hf_lrcompress.models.architectures import architecture_of, layer_pattern
from hf_lrcompress.surgery.folding import augmented, folded, linear_at, predictor, selection, write
from hf_lrcompress.surgery.head_reduction import score_bases, value_basis
from hf_lrcompress.surgery.moments import Moments, centred

ROLES = ("query", "key", "value", "query", "key")
"""What the modules of `attention_inputs` make: the last two of relative positions."""


@dataclass(frozen=True)
class HeadSizes:
    """The heads before and after.

    Args:
        old (`int`): Dimensions of a head before.
        new (`int`): Dimensions of a head after.
        rotated (`torch.LongTensor` of shape `(new,)`, *optional*): Where heads are rotated, the dimensions that each keeps.
    """

    old: int
    new: int
    rotated: torch.Tensor | None = None


@dataclass(frozen=True)
class Projection:
    """One map of the hidden dimensions to queries, keys or values.

    Args:
        path (`str`): Path of its module inside the model.
        role (`str`): `"query"`, `"key"` or `"value"`.
        affine (`torch.Tensor` of shape `(heads × head size, hidden_size + 1)`): Weight and bias.
        moment (`torch.Tensor` of shape `(hidden_size + 1, hidden_size + 1)`): Second moments of its input.
    """

    path: str
    role: str
    affine: torch.Tensor
    moment: torch.Tensor

    def outputs(self, size: int) -> torch.Tensor:
        """Second moments of what comes out, for each head of `size` dimensions: shape `(heads, size, size)`."""
        heads = self.affine.view(-1, size, self.affine.shape[1])
        return heads @ self.moment @ heads.transpose(1, 2)


@dataclass(frozen=True)
class HeadBases:
    """The basis of every head, each of shape `(new head size, old head size)`.

    Args:
        query (`list[torch.Tensor]`): For every head.
        key (`list[torch.Tensor]`): For every head that keys are made for; several heads of queries may share one.
        value (`list[torch.Tensor]`): For the same.
    """

    query: list[torch.Tensor]
    key: list[torch.Tensor]
    value: list[torch.Tensor]

    def of(self, role: str) -> torch.Tensor:
        """All heads' bases as one map, from all that a projection makes to all that the smaller one makes."""
        return torch.block_diag(*getattr(self, role))

    def of_context(self) -> torch.Tensor:
        """The same for what attention returns: every head of queries has the values' basis."""
        shared_by = len(self.query) // len(self.value)
        return torch.block_diag(*[basis for basis in self.value for _ in range(shared_by)])


def fold_attention(
    model: PreTrainedModel, small: PreTrainedModel, keep_dims: torch.Tensor, sizes: HeadSizes, moments: Moments
) -> None:
    """Set the attention of a cut encoder so that its heads compute nearly what they did, in place.

    Args:
        model ([`~transformers.PreTrainedModel`]): The encoder as it was.
        small ([`~transformers.PreTrainedModel`]): The encoder that was cut; changed.
        keep_dims (`torch.LongTensor` of shape `(hidden_size,)`): The dimensions that it keeps.
        sizes ([`HeadSizes`]): Its heads.
        moments ([`Moments`]): Second moments of `model`.
    """
    row = architecture_of(model.config)
    pattern = layer_pattern(model.config)
    for path, _ in model.named_modules():
        match = pattern.match(path)
        if match and match["rest"] == row.attention_output:
            projections = _projections(model, path.removesuffix(row.attention_output), moments)
            _fold_layer(model, small, path, projections, keep_dims, sizes, moments)


def _fold_layer(
    model: PreTrainedModel,
    small: PreTrainedModel,
    output_path: str,
    projections: list[Projection],
    keep_dims: torch.Tensor,
    sizes: HeadSizes,
    moments: Moments,
) -> None:
    output = linear_at(model, output_path)
    kept_output = augmented(output)[keep_dims]
    context = moments.mean(output_path, output.in_features).to(kept_output.device)
    bases = _bases(projections, kept_output, context, sizes)
    made: dict[str, list[torch.Tensor]] = {}
    for projection in projections:
        has_bias = linear_at(small, projection.path).bias is not None
        kept = selection(keep_dims.to(kept_output.device), model.config.hidden_size)
        reading = folded(projection.affine, predictor(projection.moment, kept, constant=has_bias))
        made.setdefault(projection.path, []).append(bases.of(projection.role) @ reading)
    for path, parts in made.items():
        write(linear_at(small, path), torch.cat(parts))
    predict = predictor(context, bases.of_context(), constant=output.bias is not None)
    write(linear_at(small, output_path), folded(kept_output, predict))


def _projections(model: PreTrainedModel, prefix: str, moments: Moments) -> list[Projection]:
    """Those that a layer has. A fused module holds queries, keys and values one after another."""
    paths = {path for path, _ in model.named_modules()}
    names = architecture_of(model.config).attention_inputs
    found = []
    for index, name in enumerate(names):
        if prefix + name not in paths:
            continue
        affine = augmented(linear_at(model, prefix + name))
        moment = moments.mean(prefix + name, affine.shape[1] - 1).to(affine.device)
        roles = ROLES[index : index + 1] if len(names) > 1 else ROLES[:3]
        for role, part in zip(roles, affine.chunk(len(roles)), strict=True):
            found.append(Projection(prefix + name, role, part, moment))
    return found


def _bases(projections: list[Projection], output: torch.Tensor, context: torch.Tensor, sizes: HeadSizes) -> HeadBases:
    queries = _moments_of_heads(projections, "query", sizes.old)
    keys = _moments_of_heads(projections, "key", sizes.old)
    shared_by = len(queries) // len(keys)
    queries = queries.view(len(keys), shared_by, sizes.old, sizes.old).sum(dim=1)
    if sizes.rotated is None:
        scored = [score_bases(query, key, sizes.new) for query, key in zip(queries, keys, strict=True)]
    else:
        pairs = selection(sizes.rotated.to(output.device), sizes.old) * (sizes.new / sizes.old) ** 0.25
        scored = [(pairs, pairs)] * len(keys)
    return HeadBases(
        query=[query for query, _ in scored for _ in range(shared_by)],
        key=[key for _, key in scored],
        value=_value_bases(output, context, shared_by, sizes),
    )


def _moments_of_heads(projections: list[Projection], role: str, size: int) -> torch.Tensor:
    """Second moments of all that is made for a role: shape `(heads, size, size)`."""
    return torch.stack([part.outputs(size) for part in projections if part.role == role]).sum(dim=0)


def _value_bases(output: torch.Tensor, context: torch.Tensor, shared_by: int, sizes: HeadSizes) -> list[torch.Tensor]:
    """For each head of values the basis that suits all heads of queries that share it."""
    covariances = centred(context).unfold(0, sizes.old, sizes.old).unfold(1, sizes.old, sizes.old)
    weights = output[:, :-1].unflatten(1, (-1, sizes.old)).transpose(0, 1)
    heads = range(len(weights))
    grams = weights.transpose(1, 2) @ weights
    bases = []
    for first in heads[::shared_by]:
        group = slice(first, first + shared_by)
        covariance = torch.stack([covariances[head, head] for head in heads[group]]).mean(dim=0)
        bases.append(value_basis(covariance, grams[group].sum(dim=0), sizes.new))
    return bases
