"""Sequential bottleneck adapters of our own, for every family and version of transformers that `adapters` does not know.

They are those of Pfeiffer et al. (arXiv 2005.00247) as `adapters` has them (`seq_bn`): the same places, parameters and initial
values; a test compares the two.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_lrcompress.models.architectures import layers_of

INITIAL_STD = 0.02


class Bottleneck(nn.Module):
    """Linear, ReLU, linear.

    Args:
        hidden_size (`int`): Size of inputs and outputs.
        size (`int`): Size of the bottleneck between them.
    """

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, size)
        self.up = nn.Linear(size, hidden_size)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=INITIAL_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What is added to states of shape `(..., hidden_size)`."""
        return self.up(self.down(hidden_states).relu())


def add_bottlenecks(model: PreTrainedModel, reduction_factor: int) -> None:
    """Put a [`Bottleneck`] behind the feed-forward network of every layer, in place, and freeze the rest of the encoder.

    The place is seen, not known: it depends on which module makes the layer's output in a forward pass.

    - A norm (BERT): `norm(x)` becomes `norm(x + bottleneck(norm(x)))`.
    - The layer, which adds up what its last module, the feed-forward network, gives (ModernBERT): `y = ffn(x)` becomes
      `y + bottleneck(y + x)`.
    - Another module that adds up (XLM-R-XL): the layer's output `y` becomes `y + bottleneck(y)`.

    Args:
        model ([`~transformers.PreTrainedModel`]): With a task head, in eval mode.
        reduction_factor (`int`): Hidden size divided by the size of the bottleneck.
    """
    model.base_model.requires_grad_(False)
    hidden_size = model.config.hidden_size
    for layer, seen in _seen(model):
        bottleneck = Bottleneck(hidden_size, max(1, hidden_size // reduction_factor))
        path, hook = _place(layer, seen)
        layer.get_submodule(path).register_forward_hook(partial(hook, bottleneck))
        layer.add_module("adapters", bottleneck)


def _seen(model: PreTrainedModel) -> list[tuple[nn.Module, dict[str, torch.Tensor]]]:
    """Every layer, and what its modules give for a text of two tokens: by path, in the order in which they finish."""
    layers: list[tuple[nn.Module, dict[str, torch.Tensor]]] = [(layer, {}) for layer in layers_of(model)]
    hooks = []
    for layer, outputs in layers:
        for path, module in layer.named_modules():
            hooks.append(module.register_forward_hook(partial(_remember, outputs, path)))
    ids = torch.full((1, 2), model.config.vocab_size // 2, device=model.device)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    for hook in hooks:
        hook.remove()
    return layers


def _remember(outputs: dict[str, torch.Tensor], path: str, module: nn.Module, args: tuple, output: Any) -> None:
    outputs[path] = _tensor(output)


def _place(layer: nn.Module, seen: dict[str, torch.Tensor]) -> tuple[str, Callable]:
    """Path inside the layer, and what happens there."""
    for path, output in seen.items():
        if output is seen[""] and not list(layer.get_submodule(path).children()):
            return path, _behind_norm
    last = [path for path in seen if path and "." not in path][-1]
    if seen[last] is seen[""]:
        return "", _behind_layer
    return last, _behind_ffn


def _behind_norm(bottleneck: Bottleneck, norm: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
    return norm.forward(args[0] + bottleneck(output))  # forward: a call would come back here


def _behind_ffn(bottleneck: Bottleneck, ffn: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
    return output + bottleneck(output + args[0])


def _behind_layer(bottleneck: Bottleneck, layer: nn.Module, args: tuple, output: Any) -> Any:
    added = _tensor(output) + bottleneck(_tensor(output))
    if isinstance(output, torch.Tensor):
        return added
    return (added, *output[1:])


def _tensor(output: Any) -> torch.Tensor:
    """What a module gives; of several things the first."""
    return output if isinstance(output, torch.Tensor) else output[0]
