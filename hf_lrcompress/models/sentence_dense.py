"""Fitting a sentence-transformers model's Dense layer to a smaller encoder."""

from dataclasses import replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.models.sentence_modules import SentenceModules

RIDGE = 1e-3
"""Of the mean squared state: keeps the fit of a Dense layer stable where states hardly vary."""


def fit_dense(modules: SentenceModules, student_states: torch.Tensor, teacher_states: torch.Tensor) -> SentenceModules:
    """Fit the Dense layer to a student's pooled states.

    With A, a the ridge least-squares map from the student's states to the teacher's (t ≈ A s + a), W (A s + a) + b is what the
    teacher's layer would compute of its own states: the new weight is W A, the new bias W a + b.

    Args:
        modules ([`SentenceModules`]): The teacher's.
        student_states (`torch.Tensor` of shape `(sentences, student hidden)`): Pooled states.
        teacher_states (`torch.Tensor` of shape `(sentences, teacher hidden)`): The same sentences'.
    """
    fitted = []
    for module in modules.modules:
        if module.kind == "Dense":
            matrix, offset = _affine_map(student_states.double(), teacher_states.double())
            weight = module.weights["linear.weight"].double()
            bias = weight @ offset
            if "linear.bias" in module.weights:
                bias = bias + module.weights["linear.bias"].double()
            weights = {"linear.weight": (weight @ matrix).float().contiguous(), "linear.bias": bias.float()}
            config = dict(module.config) | {"in_features": student_states.shape[1], "bias": True}
            module = replace(module, config=config, weights=weights)
        fitted.append(module)
    return replace(modules, modules=tuple(fitted))


@torch.no_grad()
def pooled_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, modules: SentenceModules, texts: list[str], max_length: int
) -> torch.Tensor:
    """What the pooling makes of texts: shape `(texts, hidden)`.

    Args:
        model ([`~transformers.PreTrainedModel`]): The encoder, in eval mode.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer.
        modules ([`SentenceModules`]): Say whether to take the mean of the tokens or the first.
        texts (`list[str]`): The texts.
        max_length (`int`): Tokens at which a text is cut.
    """
    states = []
    for start in range(0, len(texts), 32):
        batch = tokenizer(texts[start : start + 32], truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        hidden = model.base_model(**batch.to(model.device)).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        states.append(hidden[:, 0] if modules.pooling == "cls" else (hidden * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.cat(states).cpu()


def _affine_map(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge least squares: targets ≈ inputs · matrixᵀ + offset."""
    centred = inputs - inputs.mean(dim=0)
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    matrix = torch.linalg.solve(gram, centred.T @ (targets - targets.mean(dim=0))).T
    return matrix, targets.mean(dim=0) - matrix @ inputs.mean(dim=0)
