"""What is learnt from: the teacher and the data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compressor.recipe.section import Flag, Section


class TeacherRecipe(Section):
    """Teacher: which model to compress, and how it is fine-tuned where it has no head."""

    model: Annotated[str, Flag("teacher")] = Field(
        description="Teacher: a local folder, a hub id, or an alias such as bert-base."
    )
    revision: Annotated[str | None, Flag("teacher-revision")] = Field(
        default=None, description="Branch, tag or commit of a hub teacher."
    )
    epochs: Annotated[float, Flag("teacher-epochs")] = Field(
        default=3.0, gt=0, description="Epochs of fine-tuning for a teacher without a head."
    )
    learning_rate: Annotated[float, Flag("teacher-learning-rate")] = Field(
        default=3e-5, gt=0, description="Peak learning rate of that fine-tuning."
    )
    trust_remote_code: Annotated[bool, Flag("trust-remote-code")] = Field(
        default=False,
        description="Accept a teacher that brings Python code, and run that of its tokenizer. The model is loaded as "
        "transformers' own of its type.",
    )


class DataRecipe(Section):
    """Data: where the text is, with what is right about it, and how it is read."""

    source: Annotated[str | None, Flag("data")] = Field(
        default=None,
        description="A CSV, TSV, JSONL or Parquet file (CoNLL for token classification, SQuAD JSON for question "
        "answering, plain text where no labels are needed), a folder of them named by split, "
        "or a hub dataset. Default: the dataset that belongs to the teacher's alias.",
    )
    text_column: Annotated[str | None, Flag("text-column")] = Field(
        default=None, description="Column with the text. Default: text, sentence, ... whichever is there."
    )
    label_column: Annotated[str | None, Flag("label-column")] = Field(
        default=None, description="Column with the label. Default: label, labels, category, ..."
    )
    pair_column: Annotated[str | None, Flag("pair-column")] = Field(
        default=None,
        description="Column with the second text of a pair. Default: none, unless the columns are called "
        "sentence1 and sentence2, premise and hypothesis, or the like.",
    )
    label_separator: Annotated[str | None, Flag("label-separator")] = Field(
        default=None,
        min_length=1,
        description="What separates several labels in one field. Default: comma, semicolon or bar, whichever is there.",
    )
    tokens_column: Annotated[str | None, Flag("tokens-column")] = Field(
        default=None,
        description="Column with the words of a sentence, for token classification; in a CoNLL file its number. "
        "Default: tokens or words; the first.",
    )
    tags_column: Annotated[str | None, Flag("tags-column")] = Field(
        default=None,
        description="Column with a tag for each word, or with the entities of a text; in a CoNLL file its number. "
        "Default: ner_tags, tags, labels or entities; the last.",
    )
    doc_stride: Annotated[int, Flag("doc-stride")] = Field(
        default=128,
        ge=0,
        description="Tokens that two windows of a long context share, for question answering; and of a long text, for "
        "token classification in the deployed model.",
    )
    unlabelled: Annotated[str | None, Flag("unlabelled")] = Field(
        default=None,
        min_length=1,
        description="More texts to distil on, labelled by the teacher alone: a plain text file with one on each line, "
        "or a CSV, TSV, JSONL or Parquet file with the columns that the texts of --data have.",
    )
    augment: Annotated[int | None, Flag("augment")] = Field(
        default=None,
        ge=0,
        description="Altered copies of each training text, labelled by the teacher alone; an epoch has the text or one "
        "of them. Words are replaced by what the teacher's own masked-language-model head proposes, or by near ones in "
        "its embeddings. Default: one for every epoch after the first, for up to 20,000 texts with one label each that "
        "the teacher knows by heart, and 6 epochs or more; 0 otherwise, and with a preset or --trim-vocab.",
    )
    validation_fraction: Annotated[float, Flag("validation-fraction")] = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the training rows held out where there is no validation split."
    )
    test_fraction: Annotated[float, Flag("test-fraction")] = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the training rows held out where there is no test split."
    )
    max_train_rows: Annotated[int | None, Flag("max-train-rows")] = Field(
        default=None, gt=0, description="Train on a stratified sample of at most this many rows."
    )
    max_seq_length: Annotated[int | None, Flag("max-seq-length")] = Field(
        default=None,
        gt=1,
        description="Cut texts to this many tokens. Default: what the teacher can take, but 384 for question answering "
        "and 128 for fill-mask.",
    )
