"""FFN pruning: remove the least important feed-forward neurons of every layer."""

from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_lrcompress.messages import whole_number
from hf_lrcompress.models.architectures import intermediate_size_of, layer_pattern, layers_of
from hf_lrcompress.models.rebuilding import on_meta, rebuild, with_intermediate_size
from hf_lrcompress.surgery.folding import augmented, folded, linear_at, predictor, selection, write
from hf_lrcompress.surgery.moments import Moments
from hf_lrcompress.surgery.neuron_elimination import elimination_costs


def select_neurons(scores: torch.Tensor, intermediate_size: int) -> torch.Tensor:
    """Choose the most important neurons of each layer, each layer ranked by itself.

    Args:
        scores (`torch.Tensor` of shape `(num_hidden_layers, intermediate_size)`): Importance of every neuron.
        intermediate_size (`int`): How many neurons to keep in each layer.

    Returns:
        `torch.LongTensor` of shape `(num_hidden_layers, intermediate_size)`: Neurons to keep, ascending in each layer. Of
        equal scores the lower index is kept.

    Raises:
        ValueError: If there are fewer neurons than are to be kept, or a score is not finite.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must have shape (layers, neurons), got {tuple(scores.shape)}")
    intermediate_size = whole_number("intermediate_size", intermediate_size)
    if not 1 <= intermediate_size <= scores.shape[1]:
        raise ValueError(f"cannot keep {intermediate_size} of {scores.shape[1]} neurons a layer; give 1 to {scores.shape[1]}")
    if not torch.isfinite(scores).all():
        raise ValueError("importance scores contain NaN or infinity; score again with a smaller batch or in fp32")
    ranked = scores.argsort(dim=1, descending=True, stable=True)
    return ranked[:, :intermediate_size].sort(dim=1).values


def output_importance(model: PreTrainedModel, moments: Moments) -> torch.Tensor:
    """Score every feed-forward neuron by what its removal costs the network's output, the others refitted.

    No gradients and no labels: see [`elimination_costs`]. It is the choice that suits [`prune_ffn`] with moments.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head.
        moments ([`Moments`]): Its second moments, from [`collect_moments`].

    Returns:
        `torch.Tensor` of shape `(num_hidden_layers, intermediate_size)`: For [`select_neurons`].

    Raises:
        ValueError: If the moments are those of another model.
    """
    moments.check(model)
    scores = []
    for path, output in _outputs(model):
        moment = moments.mean(path, output.in_features)
        weight = output.weight.detach().to(moment)
        scores.append(elimination_costs(moment, weight, constant=output.bias is not None))
    return torch.stack(scores).float().cpu()


def prune_ffn(model: PreTrainedModel, keep_neurons: torch.Tensor, moments: Moments | None = None) -> PreTrainedModel:
    """Remove feed-forward neurons from every layer of an encoder.

    The returned model computes what `model` would compute with the removed neurons' activations set to zero.

    With moments they are set to what ridge regression predicts from the kept neurons' activations instead, their mean included:
    the output matrix and its bias are refitted (Kwon et al. 2022, arXiv 2204.09656; OSSCAR, Meng et al. 2024, arXiv 2403.12983).

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        keep_neurons (`torch.Tensor` of shape `(num_hidden_layers, intermediate_size)`):
            For each layer the neurons to keep, ascending. Where all layers share their weights, one row a set of weights.
        moments ([`Moments`], *optional*): Second moments of `model`, from [`collect_moments`].

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same class.

    Raises:
        ValueError: If the shape does not fit the model, or a row is not ascending or names a neuron that does not exist; if the
            moments are those of another model.

    Example:
    ```python
    >>> scores = score_neurons(model, blocks, tokenizer)
    >>> small = prune_ffn(model, select_neurons(scores, intermediate_size=2048))
    ```
    """
    keep_neurons = torch.as_tensor(keep_neurons)
    _check(model, keep_neurons)
    if moments is not None:
        moments.check(model)
    size = intermediate_size_of(model.config)
    pattern = layer_pattern(model.config)

    def keep(name: str, dim: int, length: int) -> torch.Tensor:
        match = pattern.match(name)
        assert match, f"{name} is outside of the layers, where nothing has the size of the feed-forward network"
        neurons = keep_neurons[int(match["layer"])].cpu()
        return torch.cat([neurons + start for start in range(0, length, size)])  # gate and value one after the other, if fused

    small = rebuild(model, with_intermediate_size(model.config, keep_neurons.shape[1]), keep)
    if moments is not None:
        _refit(model, small, keep_neurons, moments)
    return small


def _check(model: PreTrainedModel, keep_neurons: torch.Tensor) -> None:
    layers = len(layers_of(model))
    size = intermediate_size_of(model.config)
    if keep_neurons.ndim != 2 or keep_neurons.shape[0] != layers or keep_neurons.shape[1] == 0:
        raise ValueError(f"keep_neurons must have shape ({layers}, kept neurons), got {tuple(keep_neurons.shape)}")
    if keep_neurons.is_floating_point() or keep_neurons.dtype == torch.bool:
        raise ValueError(f"keep_neurons must be indices, whole numbers, got {keep_neurons.dtype}; select_neurons gives them")
    if keep_neurons.min() < 0 or keep_neurons.max() >= size or (keep_neurons.diff(dim=1) <= 0).any():
        raise ValueError(f"each row of keep_neurons must be ascending neuron indices from 0 to {size - 1}")


def _refit(model: PreTrainedModel, small: PreTrainedModel, keep_neurons: torch.Tensor, moments: Moments) -> None:
    """Let the kept neurons stand in for the removed ones in the output matrices of `small`, in place."""
    for (path, output), neurons in zip(_outputs(model), keep_neurons, strict=True):
        moment = moments.mean(path, output.in_features)
        kept = selection(neurons.to(moment.device), output.in_features)
        predict = predictor(moment, kept, constant=output.bias is not None)
        affine = augmented(output)
        write(linear_at(small, path), folded(affine, predict.to(affine.device)))


def _outputs(model: PreTrainedModel) -> Iterator[tuple[str, nn.Linear]]:
    """Path and module of every layer's linear map that reads the neurons."""
    pattern = layer_pattern(model.config)
    narrow = on_meta(type(model), with_intermediate_size(model.config, 1))
    for path, module in narrow.named_modules():
        if isinstance(module, nn.Linear) and pattern.match(path):
            old = linear_at(model, path)
            if old.in_features != module.in_features:
                yield path, old
