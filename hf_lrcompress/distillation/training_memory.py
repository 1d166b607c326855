"""The memory of a training: an estimate from the models' configs alone, and what is said where it is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedModel

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.cross_entropy import TOKENS_AT_ONCE
from hf_lrcompress.distillation.loss_table import LOSSES, that_compare_sentences
from hf_lrcompress.models.architectures import ffn_inputs_of


def training_memory_mb(
    student: PreTrainedModel, teacher: PreTrainedModel | None, batch_size: int, block_size: int, depths: int = 0
) -> float:
    """Estimate the memory that training with AdamW in fp32 adds to a process, in MB (10⁶ bytes).

    16 bytes a parameter of the student (weight, gradient, two moments), 4 of the teacher, the logits of a chunk, and what the
    student's layers keep for the backward pass. That is for each token and layer 8 vectors of the hidden size (inputs of norms
    and blocks, queries, keys, values, their mixture) and 2 numbers for each row of the feed-forward input (before and after the
    activation); where the class has no fused attention, 3 rows of scores a head too. After Korthikanti et al. (arXiv 2205.05198,
    section 4), without their dropout masks. A layer of the teacher holds as much while it runs. Where hidden states are compared,
    each token and depth has 4 vectors of the teacher's hidden size: its state as it is and centred, what the student's is
    projected to, and their difference. What bf16 saves is not in it.

    Args:
        student ([`~transformers.PreTrainedModel`]): The model that is trained; it may be on the meta device.
        teacher ([`~transformers.PreTrainedModel`], *optional*): Its teacher, if it has one.
        batch_size (`int`): Blocks that a process computes at once.
        block_size (`int`): Tokens of a block.
        depths (`int`, *optional*, defaults to 0): Depths at which hidden states are compared.
    """
    config = student.config
    weights = 16 * student.num_parameters()
    a_token = _numbers_of_a_layer(student, block_size) * config.num_hidden_layers
    if teacher:
        weights += 4 * teacher.num_parameters()
        a_token += _numbers_of_a_layer(teacher, block_size) + 4 * teacher.config.hidden_size * depths
    activations = 4 * a_token * batch_size * block_size
    logits = 4 * TOKENS_AT_ONCE * config.vocab_size if student.get_output_embeddings() is not None else 0
    return (weights + logits + activations) / 1e6


def _numbers_of_a_layer(model: PreTrainedModel, block_size: int) -> int:
    """What a layer keeps of a token."""
    rows = sum(linear.out_features for linear in ffn_inputs_of(model)[0])
    scores = 0 if model._supports_sdpa else 3 * model.config.num_attention_heads * block_size
    return 8 * model.config.hidden_size + 2 * rows + scores


class BatchTooLarge(MemoryError):
    """There is too little memory for a batch.

    Args:
        message (`str`): What to do.
        batch_size (`int`, *optional*, defaults to 0): The largest smaller batch that divides a step; 0 if there is none.
    """

    def __init__(self, message: str, batch_size: int = 0) -> None:
        super().__init__(message)
        self.batch_size = batch_size


@contextmanager
def smaller_batches_advised(args: DistillationConfig) -> Iterator[None]:
    """Have one line say with which batches less memory is enough, where there is too little.

    Args:
        args ([`DistillationConfig`]): Those of the training.

    Raises:
        BatchTooLarge: In place of what torch says of it.
    """
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        batch = args.per_device_train_batch_size
        steps = args.gradient_accumulation_steps
        what = f"batches of {batch} do not fit into the memory of {args.device}"
        least = max(LOSSES[name].least_sentences for name in args.loss_weights)
        smaller = next((size for size in range(batch // 2, least - 1, -1) if batch * steps % size == 0), 0)
        if not smaller:
            raise BatchTooLarge(f"{what}; give shorter texts or a smaller model") from error
        half = f"per_device_train_batch_size={smaller} and gradient_accumulation_steps={batch * steps // smaller}"
        comparing = " and ".join(that_compare_sentences(args.loss_weights))
        effect = f"take less, though {comparing} then compares fewer sentences" if comparing else "train the same"
        found = "" if args.auto_find_batch_size else " (in one process auto_find_batch_size=true sees to it)"
        raise BatchTooLarge(f"{what}; {half} {effect}{found}", smaller) from error
