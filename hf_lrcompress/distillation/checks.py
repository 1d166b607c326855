"""What a student and a teacher must have in common."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import LOSSES, that_need
from hf_lrcompress.distillation.observing import attention_widths
from hf_lrcompress.models.architectures import layers_of

TRIM_FIRST = "trim the teacher with trim_vocab first, and start the student from that"
WITHOUT_HEAD = [name for name, loss in LOSSES.items() if loss.needs != "features"]


def check_student_and_teacher(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    args: DistillationConfig,
) -> None:
    """Refuse a pair that cannot be distilled by the losses of `args`.

    Raises:
        TypeError: If `args` is no [`DistillationConfig`], or a model none of transformers.
        ValueError: If a teacher is needed and there is none, it shares weights with the student, is in training mode or has
            another vocabulary; if a loss or `head_steps` needs a head and a model has none; if heads or layers do not fit; if the
            student's weights are too coarse to be trained.
    """
    if not isinstance(args, DistillationConfig):
        raise TypeError(f"args must be a DistillationConfig, got {type(args).__name__}")
    _check_loaded("model", student)
    if teacher is not None:
        _check_loaded("teacher_model", teacher)
    _check_precision(student, args)
    _check_head("the student", student, that_need("features", args.loss_weights))
    if args.head_steps and student.get_output_embeddings() is None:
        raise ValueError(f"head_steps={args.head_steps}, but {type(student).__name__} has no head to learn first; set it to 0")
    if teacher is None:
        if args.needs_teacher:
            raise ValueError(_no_teacher(args))
        return
    if teacher is student:
        raise ValueError("teacher_model and model are the same object; load or copy the student separately")
    of_teacher = {id(parameter) for parameter in teacher.parameters()}
    shared = [name for name, parameter in student.named_parameters() if id(parameter) in of_teacher]
    if shared:
        first = f"model and teacher_model share {len(shared)} weights, such as {shared[0]}"
        raise ValueError(f"{first}: the teacher would be trained too; make the student from a copy of them")
    if teacher.training:
        raise ValueError("teacher_model is in training mode, so its dropout is on; call teacher_model.eval() first")
    if tokenizer is not None and teacher_tokenizer is not None:
        _check_tokenizers(tokenizer.get_vocab(), teacher_tokenizer.get_vocab())
    compared = args.compared
    _check_head("the teacher", teacher, that_need("features", compared))
    _check_rows(student, teacher, on_logits=bool(that_need("features", compared)))
    if that_need("attention", compared):
        _check_relations(student, teacher, args)
    if that_need("hidden_states", compared) and args.hidden_layers is not None:
        _check_hidden_layers(student, teacher, args.hidden_layers)


def check_weights_are_there(**models: PreTrainedModel | None) -> None:
    """Raise a `ValueError` if a model has its sizes alone: those are enough for [`check_student_and_teacher`], not to train."""
    for name, model in models.items():
        if model is not None and any(parameter.is_meta for parameter in model.parameters()):
            raise ValueError(f"{name} has weights on the meta device, which hold no numbers; load them")


def _check_loaded(name: str, model: object) -> None:
    """Refuse what is no model of transformers."""
    if not isinstance(model, PreTrainedModel):
        advice = "load one, and merge what PEFT or torch.compile has put around it"
        raise TypeError(f"{name} must be a transformers model, got {type(model).__name__}; {advice}")


def _check_precision(student: PreTrainedModel, args: DistillationConfig) -> None:
    """Refuse weights whose steps are smaller than their rounding; a learning rate of 0 only measures."""
    trained = {parameter.dtype for parameter in student.parameters() if parameter.requires_grad}
    coarse = sorted(str(dtype).removeprefix("torch.") for dtype in trained & {torch.bfloat16, torch.float16})
    if coarse and args.learning_rate:
        raise ValueError(
            f"the student's weights are {coarse[0]}, in which small steps are rounded away; load it with dtype=torch.float32 "
            "(bf16=True computes in bf16)"
        )


def _no_teacher(args: DistillationConfig) -> str:
    if args.losses is None:
        return f"alpha={args.alpha} distils from a teacher: give teacher_model, or set alpha=1 for masked LM only"
    return f"losses: {', '.join(args.compared)} compare with a teacher: give teacher_model, or leave them out"


def _check_head(whose: str, model: PreTrainedModel, names: list[str]) -> None:
    if names and model.get_output_embeddings() is None:
        raise ValueError(
            f"losses: {', '.join(names)} need a masked-LM head, and {whose}, a {type(model).__name__}, has none; load it with "
            f"AutoModelForMaskedLM, or choose among {', '.join(WITHOUT_HEAD)}"
        )


def _check_rows(student: PreTrainedModel, teacher: PreTrainedModel, on_logits: bool) -> None:
    rows = [_vocabulary_rows(model, on_logits) for model in (student, teacher)]
    if rows[0] != rows[1]:
        raise ValueError(
            f"the student's vocabulary has {rows[0]} rows, the teacher's {rows[1]}: ids {min(rows)} to {max(rows) - 1} are "
            f"in one only; {TRIM_FIRST}"
        )


def _vocabulary_rows(model: PreTrainedModel, on_logits: bool) -> int:
    layer = model.get_output_embeddings() if on_logits else model.get_input_embeddings()
    return len(layer.get_parameter("weight"))


def _check_relations(student: PreTrainedModel, teacher: PreTrainedModel, args: DistillationConfig) -> None:
    heads = args.relation_heads or student.config.num_attention_heads
    for whose, model in (("student", student), ("teacher", teacher)):
        widths = set(attention_widths(model))
        if len(widths) > 1:
            raise ValueError(f"relations need as many keys and values as queries, the {whose} has fewer; use hidden_cosine")
        if any(width % heads for width in widths):
            raise ValueError(f"relation_heads={heads} must divide the {whose}'s attention of width {widths.pop()}")
    layers = teacher.config.num_hidden_layers
    if args.relation_layer >= layers:
        raise ValueError(
            f"relation_layer={args.relation_layer}, but the teacher has {layers} layers: give 0 to {layers - 1}, or -1"
        )
    if len(layers_of(teacher)) == 1 and args.relation_layer not in (-1, layers - 1):
        raise ValueError(
            "the teacher's layers share their weights, so its relations are those of the last: set relation_layer=-1"
        )


def _check_hidden_layers(student: PreTrainedModel, teacher: PreTrainedModel, hidden_layers: list[int]) -> None:
    states = student.config.num_hidden_layers + 1
    if len(hidden_layers) != states:
        raise ValueError(
            f"hidden_layers has {len(hidden_layers)} entries, but the student {states} hidden states: after the embeddings and "
            f"after each of {states - 1} layers; give one for each"
        )
    last = teacher.config.num_hidden_layers
    if max(hidden_layers) > last:
        raise ValueError(f"hidden_layers names {max(hidden_layers)}, but the teacher's hidden states are 0 to {last}")


def _check_tokenizers(vocabulary: dict[str, int], teacher_vocabulary: dict[str, int]) -> None:
    tokens = {index: token for token, index in vocabulary.items()}
    teacher_tokens = {index: token for token, index in teacher_vocabulary.items()}
    ids = sorted(tokens.keys() | teacher_tokens.keys())
    differ = [i for i in ids if tokens.get(i) != teacher_tokens.get(i)]
    if differ:
        shown = ", ".join(f"{i} ({tokens.get(i)!r} and {teacher_tokens.get(i)!r})" for i in differ[:3])
        raise ValueError(f"the tokenizers of student and teacher differ at {len(differ)} ids, such as {shown}; {TRIM_FIRST}")
