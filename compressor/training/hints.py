"""Teaching what lies before the answers: hidden states, attention, relations, embeddings.

``Hints`` runs both models once on a batch and compares what a plan names. Queries, keys and values are taken from the
linear products that the architecture's row names, so that the models may compute attention in any way, without
returning it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compressor.architectures import Architecture
from compressor.artifacts import Student, Teacher
from compressor.training import losses
from compressor.training.hint_plan import KEY, QUERY, VALUE, HintPlan, is_packed, layers_of, product_of

ATTRIBUTE = "hints"
"""Name under which the projections hang on the student while it is trained."""


class Hints:
    """A plan at work on two models.

    Where the widths differ, a linear projection brings the student's states to the teacher's width: one for all hidden
    states, as in TinyBERT's code, and one for the embeddings. They are trained with the student and thrown away.

    Args:
        plan: What is compared.
        teacher: Runs without gradients, in eval mode.
        student: Its layers are watched while ``forward`` runs.
        seed: Of the projections.
        computing: What the teacher computes in, as ``engine.arithmetic`` makes it. Default: fp32.

    Attributes:
        modules: The projections; empty where the widths are equal or nothing is compared.
    """

    def __init__(
        self,
        plan: HintPlan,
        teacher: Teacher,
        student: Student,
        seed: int,
        computing: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.plan = plan
        self._computing = computing
        self.modules = nn.ModuleDict()
        self._teacher: nn.Module = teacher.model
        self._layers = (
            layers_of(student.model, teacher.architecture),
            layers_of(teacher.model, teacher.architecture),
        )
        self._architecture = teacher.architecture
        self._heads = teacher.model.config.num_attention_heads
        own, other = student.model.config.hidden_size, teacher.model.config.hidden_size
        if own != other:
            names = (["hidden"] if plan.hidden or plan.first_token else []) + ["embeddings"] * plan.embeddings
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for name in names:
                    self.modules[name] = nn.Linear(own, other)

    @contextmanager
    def attached(self, model: nn.Module, device: str) -> Iterator[None]:
        """Let the projections ride on the student, and move the teacher to the device, while the block runs.

        On the student they are moved, optimised, synchronised between processes, written into its checkpoints and read
        back with everything else. Afterwards the student is as it was without them.

        Args:
            model: The student.
            device: ``cpu`` or ``cuda``; the teacher returns to the CPU.
        """
        if not self.plan.wanted:
            yield
            return
        if self.modules:
            model.add_module(ATTRIBUTE, self.modules)
        self._teacher.eval().to(device)
        try:
            yield
        finally:
            self._teacher.to("cpu")
            if self.modules:
                delattr(model, ATTRIBUTE)

    def forward(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Any, Tensor, dict[str, Tensor]]:
        """Run the student once, and the teacher beside it where something is compared.

        Args:
            model: The student, wrapped for several devices or not.
            inputs: What both models take; ``attention_mask`` is needed.

        Returns:
            The student's output, the weighted sum of the comparisons (0 where there is none), and each of them before
            its weight, by name.
        """
        if not self.plan.wanted:
            return model(**inputs), torch.zeros((), device=inputs["attention_mask"].device), {}
        states = {"output_hidden_states": True} if self.plan.compares_states else {}
        with self._capture(0) as own:
            output = model(**inputs, **states)
        with torch.no_grad(), self._computing(), self._capture(1) as other:
            answer = self._teacher(**inputs, **states)
        found = dict(
            self._compare(
                tuple(map(Tensor.float, output.hidden_states)) if states else (),
                tuple(map(Tensor.float, answer.hidden_states)) if states else (),
                own,
                other,
                inputs["attention_mask"],
            )
        )
        total = torch.stack([self.plan.weights[name] * loss for name, loss in found.items()]).sum()
        return output, total, {name: loss.detach() for name, loss in found.items()}

    def _compare(
        self,
        own_states: tuple[Tensor, ...],
        other_states: tuple[Tensor, ...],
        own: Mapping[tuple[int, int], Tensor],
        other: Mapping[tuple[int, int], Tensor],
        mask: Tensor,
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and the loss of each thing that is compared."""
        plan = self.plan
        # Entry 0 of the hidden states is the embeddings' output.
        if plan.hidden:
            distance = losses.hidden_cosine if plan.hidden_loss == "cosine" else losses.hidden_mse
            yield (
                "hidden",
                _mean(
                    distance(self._project("hidden", own_states[s + 1]), other_states[t + 1], mask)
                    for s, t in plan.hidden
                ),
            )
        if plan.first_token:
            yield (
                "first_token",
                _mean(
                    losses.first_token_mse(self._project("hidden", own_states[s + 1]), other_states[t + 1])
                    for s, t in plan.first_token
                ),
            )
        if plan.embeddings:
            yield "embeddings", losses.hidden_mse(self._project("embeddings", own_states[0]), other_states[0], mask)
        if plan.attention:
            yield (
                "attention",
                _mean(
                    losses.attention_mse(
                        losses.attention_scores(own[s, QUERY], own[s, KEY], self._heads),
                        losses.attention_scores(other[t, QUERY], other[t, KEY], self._heads),
                        mask,
                    )
                    for s, t in plan.attention
                ),
            )
        if plan.relations:
            yield (
                "relations",
                _mean(
                    torch.stack(
                        [
                            losses.relation_kl(own[s, place], other[t, place], mask, plan.relation_heads)
                            for place in (QUERY, KEY, VALUE)
                        ]
                    ).sum()
                    for s, t in plan.relations
                ),
            )

    def _project(self, name: str, states: Tensor) -> Tensor:
        projected: Tensor = self.modules[name](states) if name in self.modules else states
        return projected

    def _capture(self, side: Literal[0, 1]) -> Any:
        return captured(self._layers[side], self._architecture, self.plan.products(side))


@contextmanager
def captured(
    layers: tuple[nn.Module, ...], architecture: Architecture, products: Iterable[tuple[int, int]]
) -> Iterator[dict[tuple[int, int], Tensor]]:
    """Keep what linear products give while the block runs; nothing is left on the model.

    Attention scores made of them are those of the model for bert, roberta and its like, electra, distilbert, albert and
    mobilebert. What mpnet and deberta-v2 add for positions, and modernbert's rotation, is left out on both sides: all
    layers of a model share it, and the student has the teacher's.

    Args:
        layers: The encoder's.
        architecture: Names the products in a layer.
        products: Layer, and place among queries, keys and values, of each.

    Yields:
        Filled by the forward pass: fp32 of shape (batch, tokens, width) for each.
    """
    found: dict[tuple[int, int], Tensor] = {}

    def keep(layer: int, place: int) -> Any:
        # deberta-v2 sends its relative positions through the same products after the tokens.
        runs, wanted = itertools.count(), layer if architecture.shared else 0

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if next(runs) == wanted:
                found[layer, place] = (output.chunk(3, dim=-1)[place] if is_packed(architecture) else output).float()

        return hook

    with ExitStack() as hooks:
        for layer, place in products:
            product = product_of(layers, architecture, layer, place)
            hooks.callback(product.register_forward_hook(keep(layer, place)).remove)
        yield found


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
