"""What a student and a teacher must have in common."""

from torch import nn
from transformers import PreTrainedTokenizerBase

from hf_lrcompress.distillation.config import DistillationConfig

TRIM_FIRST = "trim the teacher with trim_vocab first, and start the student from that"


def check_student_and_teacher(
    student: nn.Module,
    teacher: nn.Module | None,
    tokenizer: PreTrainedTokenizerBase | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    args: DistillationConfig,
) -> None:
    """Refuse a pair that cannot be distilled.

    Raises:
        ValueError: If a teacher is needed and there is none, it is the student or in training mode, or tokens or output rows
            differ, or (for relations) heads do not fit.
    """
    if teacher is None:
        if args.needs_teacher:
            raise ValueError(f"alpha={args.alpha} distils from a teacher: give teacher_model, or set alpha=1 for masked LM only")
        return
    if teacher is student:
        raise ValueError("teacher_model and model are the same object; load or copy the student separately")
    if teacher.training:
        raise ValueError("teacher_model is in training mode, so its dropout is on; call teacher_model.eval() first")
    if tokenizer is not None and teacher_tokenizer is not None:
        _check_tokenizers(tokenizer.get_vocab(), teacher_tokenizer.get_vocab())
    rows = [model.get_output_embeddings().weight.shape[0] for model in (student, teacher)]
    if rows[0] != rows[1]:
        raise ValueError(
            f"the student's vocabulary has {rows[0]} rows, the teacher's {rows[1]}: ids {min(rows)} to {max(rows) - 1} are "
            f"in one only; {TRIM_FIRST}"
        )
    grouped = {getattr(model.config, "num_key_value_heads", None) for model in (student, teacher)}
    if args.feature_loss == "relations" and grouped - {None, student.config.num_attention_heads}:
        raise ValueError("feature_loss='relations' needs as many keys and values as queries; use 'hidden_mse'")
    heads, size = student.config.num_attention_heads, teacher.config.hidden_size
    if args.feature_loss == "relations" and size % heads:
        raise ValueError(f"feature_loss='relations' needs the student's {heads} heads to divide the teacher's hidden size {size}")


def _check_tokenizers(vocabulary: dict[str, int], teacher_vocabulary: dict[str, int]) -> None:
    tokens, teacher_tokens = ({index: token for token, index in v.items()} for v in (vocabulary, teacher_vocabulary))
    differ = [i for i in sorted(tokens.keys() | teacher_tokens.keys()) if tokens.get(i) != teacher_tokens.get(i)]
    if differ:
        shown = ", ".join(f"{i} ({tokens.get(i)!r} and {teacher_tokens.get(i)!r})" for i in differ[:3])
        raise ValueError(f"the tokenizers of student and teacher differ at {len(differ)} ids, such as {shown}; {TRIM_FIRST}")
