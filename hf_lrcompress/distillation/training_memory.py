"""What training a model takes, from its config alone."""

from transformers import PreTrainedModel

from hf_lrcompress.distillation.cross_entropy import TOKENS_AT_ONCE
from hf_lrcompress.models.architectures import ffn_inputs_of


def training_memory_mb(student: PreTrainedModel, teacher: PreTrainedModel | None, batch_size: int, block_size: int) -> float:
    """Estimate the memory that training with AdamW in fp32 adds to a process, in MB (10⁶ bytes).

    16 bytes a parameter of the student (weight, gradient, two moments), 4 of the teacher, the logits of a chunk, and what the
    student's layers keep for the backward pass. That is for each token and layer 8 vectors of the hidden size (inputs of norms
    and blocks, queries, keys, values, their mixture) and 2 numbers for each row of the feed-forward input (before and after the
    activation); where the class has no fused attention, 3 rows of scores a head too. After Korthikanti et al. (arXiv 2205.05198,
    section 4), without their dropout masks. What the teacher holds while it runs and what bf16 saves is not in it.

    Args:
        student ([`~transformers.PreTrainedModel`]): The model that is trained; it may be on the meta device.
        teacher ([`~transformers.PreTrainedModel`], *optional*): Its teacher, if it has one.
        batch_size (`int`): Blocks that a process computes at once.
        block_size (`int`): Tokens of a block.
    """
    config = student.config
    weights = 16 * student.num_parameters() + (4 * teacher.num_parameters() if teacher else 0)
    rows = sum(linear.out_features for linear in ffn_inputs_of(student)[0])
    a_token = 8 * config.hidden_size + 2 * rows
    if not student._supports_sdpa:
        a_token += 3 * config.num_attention_heads * block_size
    activations = 4 * a_token * batch_size * block_size * config.num_hidden_layers
    logits = 4 * TOKENS_AT_ONCE * config.vocab_size if student.get_output_embeddings() is not None else 0
    return (weights + logits + activations) / 1e6
