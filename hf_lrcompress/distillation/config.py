"""Arguments of a distillation run."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

DISTILLATION_LOSSES = ("mse", "kl")


@dataclass
class DistillationConfig(TrainingArguments):
    """[`~transformers.TrainingArguments`] and what a [`DistillationTrainer`] needs besides.

    Args:
        alpha (`float`, *optional*, defaults to 0.5):
            Weight of the masked-LM loss; the distillation loss gets `1 - alpha`. With 1 no teacher is needed: plain MLM training.
        distillation_loss (`str`, *optional*, defaults to `"mse"`):
            `"mse"`: mean squared error between student and teacher logits over all tokens and the whole vocabulary;
            `"kl"`: KL(teacher ‖ student) × temperature², mean over all tokens.
        temperature (`float`, *optional*, defaults to 1.0): Divides the logits in the KL loss.
        mlm_probability (`float`, *optional*, defaults to 0.15): Share of tokens to mask, where no `data_collator` is given.
        disable_dropout (`bool`, *optional*, defaults to `False`):
            Train the student without dropout. The saved config keeps its dropout for whoever fine-tunes the model.

    Raises:
        ValueError: If a value is out of its range.
    """

    alpha: float = field(default=0.5, metadata={"help": "Weight of the masked-LM loss, 0 to 1."})
    distillation_loss: str = field(default="mse", metadata={"help": "'mse' or 'kl'."})
    temperature: float = field(default=1.0, metadata={"help": "Divides the logits in the KL loss."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to mask."})
    disable_dropout: bool = field(default=False, metadata={"help": "Train the student without dropout."})

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be from 0 (distillation only) to 1 (masked LM only), got {self.alpha}")
        if self.distillation_loss not in DISTILLATION_LOSSES:
            raise ValueError(f"distillation_loss must be 'mse' or 'kl', got {self.distillation_loss!r}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"mlm_probability must be between 0 and 1, got {self.mlm_probability}")
        super().__post_init__()
