"""The final model of a run for representations, as sentence-transformers loads it."""

from itertools import islice

from hf_lrcompress.models.sentence_dense import fit_dense, pooled_states
from hf_lrcompress.models.sentence_modules import SentenceModules, module_files
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.texts.corpus import load_corpus

TEXTS_TO_FIT = 2048


def sentence_files(inputs: RunInputs, modules: SentenceModules, student: ModelSource) -> dict[str, bytes]:
    """The files to put beside a student; a Dense layer is fitted to it on the first documents of the training text.

    Args:
        inputs ([`RunInputs`]): What the run starts from.
        modules ([`SentenceModules`]): The teacher's.
        student ([`ModelSource`]): The final model.
    """
    model = inputs.load_model(student).eval()
    if modules.has_dense:
        texts = [row["text"] for row in islice(load_corpus(inputs.train), TEXTS_TO_FIT)]
        teacher = inputs.load_model(inputs.teacher).eval()
        tokenizer = load_tokenizer(student.path, student.revision)
        student_states = pooled_states(model, tokenizer, modules, texts, inputs.block_size)
        teacher_states = pooled_states(teacher, inputs.tokenizer, modules, texts, inputs.block_size)
        modules = fit_dense(modules, student_states, teacher_states)
    return module_files(modules, model.config.hidden_size)
