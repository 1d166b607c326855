"""What training a model takes, from its config alone."""

from transformers import PretrainedConfig

from hf_lrcompress.distillation.cross_entropy import TOKENS_AT_ONCE
from hf_lrcompress.models.architectures import ffn_inputs_of
from hf_lrcompress.models.rebuilding import masked_lm_on_meta


def training_memory_mb(student: PretrainedConfig, teacher: PretrainedConfig | None, batch_size: int, block_size: int) -> float:
    """Estimate the memory of training with AdamW in fp32, in MB (10⁶ bytes) a process.

    16 bytes a parameter of the student (weight, gradient, two moments), 4 of the teacher, the logits of a chunk, and what the
    student's layers keep for the backward pass. That is for each token and layer 8 vectors of the hidden size (inputs of norms
    and blocks, queries, keys, values, their mixture) and 2 numbers for each row of the feed-forward input (before and after the
    activation); where the class has no fused attention, 3 rows of scores a head too. After Korthikanti et al. (arXiv 2205.05198,
    section 4), without their dropout masks. What the teacher holds while it runs and what bf16 saves is not in it.

    Args:
        student ([`~transformers.PretrainedConfig`]): Config of the model that is trained.
        teacher ([`~transformers.PretrainedConfig`], *optional*): Config of its teacher, if it has one.
        batch_size (`int`): Blocks that a process computes at once.
        block_size (`int`): Tokens of a block.
    """
    model = masked_lm_on_meta(student)
    weights = 16 * model.num_parameters() + (4 * masked_lm_on_meta(teacher).num_parameters() if teacher else 0)
    rows = sum(linear.out_features for linear in ffn_inputs_of(model)[0])
    a_token = 8 * student.hidden_size + 2 * rows
    if not model._supports_sdpa:
        a_token += 3 * student.num_attention_heads * block_size
    activations = 4 * a_token * batch_size * block_size * student.num_hidden_layers
    return (weights + 4 * TOKENS_AT_ONCE * student.vocab_size + activations) / 1e6
