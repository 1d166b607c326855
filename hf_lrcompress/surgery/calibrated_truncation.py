"""Hidden truncation after calibration: what is removed is predicted from what is kept.

The parts change a model that was cut already, in place. They see from the modules' sizes which of them read hidden dimensions.
"""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.models.architectures import architecture_of, layer_pattern
from hf_lrcompress.surgery.folding import augmented, folded, predictor, selection, write
from hf_lrcompress.surgery.moments import LAST_HIDDEN_STATE, Moments, centred

Reader = nn.Linear | nn.Conv1d
"""What reads hidden dimensions."""


def stream_covariance(config: PretrainedConfig, moments: Moments) -> torch.Tensor:
    """The covariance of the hidden dimensions, averaged over the places that read them, each with trace 1.

    Places are what the encoder returns, and in every layer the inputs of attention and of the feed-forward network.

    Args:
        config ([`~transformers.PretrainedConfig`]): The encoder's config.
        moments ([`Moments`]): Its second moments.

    Returns:
        `torch.Tensor` of shape `(hidden_size, hidden_size)`.
    """
    row = architecture_of(config)
    pattern = layer_pattern(config)
    readers = (row.attention_inputs[0], row.ffn_inputs[0])
    places = [LAST_HIDDEN_STATE]
    for path in moments.sums:
        match = pattern.match(path)
        if match and match["rest"] in readers:
            places.append(path)
    covariances = [centred(moments.mean(path, config.hidden_size)).cpu() for path in places]
    return torch.stack([covariance / covariance.trace() for covariance in covariances]).mean(dim=0)


def scale_norms(model: PreTrainedModel, small: PreTrainedModel, keep_dims: torch.Tensor, moments: Moments) -> None:
    """Multiply the gain of every norm by the standard deviation over the kept dimensions against that over all, in place.

    A norm over fewer dimensions divides by their standard deviation (or root mean square): so kept dimensions come out as
    before, on average over the text.

    Args:
        model ([`~transformers.PreTrainedModel`]): The encoder as it was.
        small ([`~transformers.PreTrainedModel`]): The encoder that was cut; changed.
        keep_dims (`torch.LongTensor` of shape `(hidden_size,)`): The dimensions that it keeps.
        moments ([`Moments`]): Second moments of `model`.
    """
    for path, norm in small.named_modules():
        gain = norm._parameters.get("weight")
        if gain is None or gain.ndim != 1:
            continue
        old_size = model.get_parameter(f"{path}.weight").numel()
        if old_size == len(gain):
            continue
        second = moments.mean(path, old_size)[:-1, :-1]
        is_centred = isinstance(norm, nn.LayerNorm)
        kept = _spread(second[keep_dims][:, keep_dims], is_centred)
        with torch.no_grad():
            gain *= (kept / _spread(second, is_centred)).sqrt().to(gain)


def _spread(second: torch.Tensor, is_centred: bool) -> torch.Tensor:
    """The mean over tokens of the variance over dimensions, or of the mean square."""
    square = second.diagonal().mean()
    return square - second.mean() if is_centred else square


def fold_readers(model: PreTrainedModel, small: PreTrainedModel, keep_dims: torch.Tensor, moments: Moments) -> None:
    """Fold the removed dimensions into every linear map outside of attention that reads them, in place.

    Where the weight is an embedding's (a tied output layer), only its bias takes in the mean of what is removed. A map that was
    given fewer inputs than it has dimensions (a pooler, which reads one token a text) stays as it was cut.

    Args:
        model ([`~transformers.PreTrainedModel`]): The encoder as it was.
        small ([`~transformers.PreTrainedModel`]): The encoder that was cut; changed.
        keep_dims (`torch.LongTensor` of shape `(hidden_size,)`): The dimensions that it keeps.
        moments ([`Moments`]): Second moments of `model`.
    """
    embeddings = small.get_input_embeddings().weight
    for path, (old, new) in readers_of(model, small).items():
        if path not in moments.sums:
            continue
        size = old.weight.shape[1]
        moment = moments.mean(path, size)
        if new.weight is embeddings:
            add_mean(old, new, keep_dims, moment[:-1, -1])
            continue
        kept = selection(keep_dims.to(moment.device), size)
        predict = predictor(moment, kept, constant=new.bias is not None).to(old.weight.device)
        rows = keep_dims if len(new.weight) != len(old.weight) else torch.arange(len(old.weight))
        if isinstance(old, nn.Conv1d):
            fold_convolution(old, new, rows, predict)
        else:
            write(new, folded(augmented(old)[rows], predict))


def readers_of(model: PreTrainedModel, small: PreTrainedModel) -> dict[str, tuple[Reader, Reader]]:
    """The linear maps of a cut encoder, outside of attention, that are given fewer dimensions than before.

    Args:
        model ([`~transformers.PreTrainedModel`]): The encoder as it was.
        small ([`~transformers.PreTrainedModel`]): The encoder that was cut.

    Returns:
        `dict[str, tuple[Reader, Reader]]`: For a path the module of `model` and that of `small`.
    """
    row = architecture_of(model.config)
    pattern = layer_pattern(model.config)
    attention = (*row.attention_inputs, row.attention_output)
    readers = {}
    for path, new in small.named_modules():
        match = pattern.match(path)
        if match and match["rest"] in attention:
            continue
        old = model.get_submodule(path)
        if isinstance(old, Reader) and isinstance(new, Reader) and old.weight.shape[1] != new.weight.shape[1]:
            readers[path] = (old, new)
    return readers


def add_mean(old: Reader, new: Reader, keep_dims: torch.Tensor, mean: torch.Tensor) -> None:
    """Add to a bias what the removed dimensions gave on average, in place.

    Args:
        old (`Reader`): The layer as it was.
        new (`Reader`): The layer that was cut; changed.
        keep_dims (`torch.LongTensor` of shape `(hidden_size,)`): The dimensions that it keeps.
        mean (`torch.Tensor` of shape `(old hidden_size,)`): Mean of the old layer's input.
    """
    if new.bias is None:
        return
    removed = mean.clone()
    removed[keep_dims.to(mean.device)] = 0.0
    with torch.no_grad():
        new.bias.add_(old.weight @ removed.to(old.weight))


def fold_convolution(old: nn.Conv1d, new: Reader, rows: torch.Tensor, predict: torch.Tensor) -> None:
    """Fold the removed dimensions into every tap of a convolution over the text, in place.

    Args:
        old (`nn.Conv1d`): The convolution as it was.
        new (`Reader`): The convolution that was cut; changed.
        rows (`torch.LongTensor`): The output dimensions that it keeps.
        predict (`torch.Tensor` of shape `(old size, size + 1)`): From [`predictor`].
    """
    weight = torch.einsum("oik,ij->ojk", old.weight.detach().double()[rows], predict.to(old.weight.device))
    with torch.no_grad():
        new.weight.copy_(weight[:, :-1])
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias[rows] + weight[:, -1].sum(dim=1))
