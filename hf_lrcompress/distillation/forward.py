"""The student's forward pass that returns losses, and the teacher's pass that it is compared with.

The losses must be made inside the student's wrapped forward: that is where DDP watches which parameters are used, and where FSDP
and DeepSpeed have gathered them.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.feature_losses import hidden_state_cosine, hidden_state_mse, self_attention_relations
from hf_lrcompress.distillation.losses import gram, linear_cross_entropy, linear_kl, linear_mse, linear_predictions
from hf_lrcompress.models.architectures import architecture_of, layers_of

HIDDEN_STATE_LOSSES = {"hidden_mse": hidden_state_mse, "hidden_cosine": hidden_state_cosine}


@contextmanager
def _identity_output_layer(model: PreTrainedModel) -> Iterator[None]:
    """Let the output layer pass its input through: the model's "logits" are then the features before it."""
    layer = model.get_output_embeddings()
    layer.forward = lambda features: features
    try:
        yield
    finally:
        del layer.forward


@contextmanager
def _last_attention(model: PreTrainedModel) -> Iterator[dict[str, torch.Tensor]]:
    """Collects the outputs of the last layer's query, key and value projections while the model runs.

    Of a layer that is run several times (ALBERT) those of the last time; of projections that a layer uses again for relative
    positions (DeBERTa) those of the tokens, which come first.
    """
    layer, outputs = layers_of(model)[-1], {}
    hooks = [layer.register_forward_pre_hook(lambda module, inputs: outputs.clear())]
    for name in architecture_of(model.config).attention_inputs[:3]:
        hooks.append(layer.get_submodule(name).register_forward_hook(partial(_collect_first, outputs, name)))
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _collect_first(outputs: dict[str, torch.Tensor], name: str, module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
    outputs.setdefault(name, output)


def encode(model: PreTrainedModel, feature_loss: str | None = None, **inputs: torch.Tensor) -> dict[str, Any]:
    """Run a masked LM up to its output layer.

    Returns:
        `dict`: `features`, the input of the output layer, of shape `(batch, sequence, hidden)`, and what `feature_loss` compares:
        `hidden_states` (after the embeddings and every layer) or `relations` (queries, keys and values of the last layer).
    """
    watch = _last_attention(model) if feature_loss == "relations" else nullcontext()
    with _identity_output_layer(model), watch as attention:
        outputs = type(model).forward(model, **inputs, output_hidden_states=feature_loss in HIDDEN_STATE_LOSSES)
    encoded = {"features": outputs.logits}
    if feature_loss in HIDDEN_STATE_LOSSES:
        encoded["hidden_states"] = outputs.hidden_states
    elif feature_loss == "relations":
        encoded["relations"] = torch.cat(list(attention.values()), dim=-1).chunk(3, dim=-1)
    return encoded


def encode_teacher(teacher: PreTrainedModel, feature_loss: str | None, **inputs: torch.Tensor) -> dict[str, Any]:
    """[`encode`] for the model that is not trained."""
    with torch.inference_mode():
        encoded = encode(teacher, feature_loss, **inputs)
    # Copies made out here may be saved for the student's backward pass, what was made in inference mode may not.
    return {name: value.clone() if name == "features" else [one.clone() for one in value] for name, value in encoded.items()}


def return_losses(student: PreTrainedModel, teacher: PreTrainedModel | None, args: DistillationConfig) -> None:
    """Teach the student's forward the argument `distillation`, with which it returns losses instead of logits.

    `distillation` holds `labels` (-100 where no token is masked), `mask` (False at padding), both of shape `(batch, sequence)`,
    and `teacher`, the result of [`encode_teacher`] or `None`. In training mode the result is of shape `(3,)`: masked-LM loss,
    distillation loss and feature loss, each summed over tokens. In eval mode it is of shape `(batch, 4)`: the same for each row,
    and how many of its masked tokens were predicted.
    """
    plain_forward = student.forward
    distil = _distillation_loss(teacher, args) if teacher is not None and args.alpha < 1 else None

    def forward(self, *positional, distillation=None, **inputs):
        if distillation is None:
            return plain_forward(*positional, **inputs)
        labels, mask, encoded_teacher = distillation["labels"], distillation["mask"], distillation["teacher"]
        encoded = encode(self, args.feature_loss if encoded_teacher else None, **inputs)
        layer, features, masked = self.get_output_embeddings(), encoded["features"], labels != -100
        weight, bias = layer.weight, layer.bias
        distilled = feature_losses = torch.zeros(0, device=features.device)
        positions = masked if args.distillation_positions == "masked" else mask
        if encoded_teacher and distil:
            distilled, weight = distil(features[positions], weight, bias, encoded_teacher["features"][positions])
        if encoded_teacher and args.feature_loss:
            feature_losses = _feature_losses(self, encoded, encoded_teacher, mask, args.feature_loss)
        if self.training:
            mlm = linear_cross_entropy(features[masked], weight, bias, labels[masked])
            return torch.stack([mlm, distilled.sum(), feature_losses.sum()])
        mlm, correct = linear_predictions(features[masked], weight, bias, labels[masked])
        columns = [(mlm, masked), (distilled, positions), (feature_losses, mask), (correct.float(), masked)]
        return torch.stack([_row_sums(values, where) for values, where in columns], dim=1)

    forward.__signature__ = inspect.signature(type(student).forward)  # the Trainer drops data columns by it
    student.forward = MethodType(forward, student)


def _distillation_loss(teacher: PreTrainedModel, args: DistillationConfig):
    """Gives the loss of every token, and the student's weight for the next loss."""
    target = teacher.get_output_embeddings()
    if args.distillation_loss == "kl":
        return lambda h_s, w_s, b_s, h_t: (linear_kl(h_s, w_s, b_s, h_t, target.weight, target.bias, args.temperature), w_s)
    teacher_gram = gram(target.weight)
    return lambda h_s, w_s, b_s, h_t: linear_mse(h_s, w_s, b_s, h_t, target.weight, target.bias, teacher_gram)


def _row_sums(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Sums of the values of each row's tokens: `(tokens,)` and a mask of shape `(batch, sequence)` → `(batch,)`."""
    rows = where.nonzero()[: len(values), 0]
    return values.new_zeros(len(where)).index_add(0, rows, values)


def _feature_losses(student: nn.Module, encoded: dict, encoded_teacher: dict, mask: torch.Tensor, name: str) -> torch.Tensor:
    if name == "relations":
        heads = student.config.num_attention_heads
        return self_attention_relations(encoded["relations"], encoded_teacher["relations"], mask, heads)
    states, targets = encoded["hidden_states"], encoded_teacher["hidden_states"]
    project = getattr(student, "feature_projection", nn.Identity())
    depth = (len(targets) - 1) / (len(states) - 1)
    losses = [HIDDEN_STATE_LOSSES[name](project(state[mask]), targets[round(i * depth)][mask]) for i, state in enumerate(states)]
    return torch.stack(losses).mean(dim=0)
