"""FFN pruning: remove the least important feed-forward neurons of every layer."""

import torch
from transformers import PreTrainedModel

from hf_lrcompress.models.architectures import intermediate_size_of, layer_pattern, layers_of
from hf_lrcompress.models.rebuilding import rebuild, with_intermediate_size


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
    if not 1 <= intermediate_size <= scores.shape[1]:
        raise ValueError(f"cannot keep {intermediate_size} of {scores.shape[1]} neurons a layer; give 1 to {scores.shape[1]}")
    if not torch.isfinite(scores).all():
        raise ValueError("importance scores contain NaN or infinity; score again with a smaller batch or in fp32")
    ranked = scores.argsort(dim=1, descending=True, stable=True)
    return ranked[:, :intermediate_size].sort(dim=1).values


def prune_ffn(model: PreTrainedModel, keep_neurons: torch.Tensor) -> PreTrainedModel:
    """Remove feed-forward neurons from every layer of an encoder.

    The returned model computes what `model` would compute with the removed neurons' activations set to zero.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        keep_neurons (`torch.Tensor` of shape `(num_hidden_layers, intermediate_size)`):
            For each layer the neurons to keep, ascending. Where all layers share their weights, one row a set of weights.

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same class.

    Raises:
        ValueError: If the shape does not fit the model, or a row is not ascending or names a neuron that does not exist.

    Example:
    ```python
    >>> scores = score_neurons(model, blocks, tokenizer)
    >>> small = prune_ffn(model, select_neurons(scores, intermediate_size=2048))
    ```
    """
    layers, size = len(layers_of(model)), intermediate_size_of(model.config)
    if keep_neurons.ndim != 2 or keep_neurons.shape[0] != layers or keep_neurons.shape[1] == 0:
        raise ValueError(f"keep_neurons must have shape ({layers}, kept neurons), got {tuple(keep_neurons.shape)}")
    if keep_neurons.min() < 0 or keep_neurons.max() >= size or (keep_neurons.diff(dim=1) <= 0).any():
        raise ValueError(f"each row of keep_neurons must be ascending neuron indices from 0 to {size - 1}")
    pattern = layer_pattern(model.config)

    def keep(name: str, dim: int, length: int) -> torch.Tensor:
        neurons = keep_neurons[int(pattern.match(name)["layer"])].cpu()
        return torch.cat([neurons + start for start in range(0, length, size)])  # gate and value one after the other, if fused

    return rebuild(model, with_intermediate_size(model.config, keep_neurons.shape[1]), keep)
