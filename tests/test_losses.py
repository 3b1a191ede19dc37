"""Losses against hand-computed values and reference formulas."""

import math

import numpy as np
import pytest
import scipy.special
import torch
from torch.nn import functional

from compressor.training import losses


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def kl(p, q):
    """Mean over the rows of sum p log(p / q), in numpy."""
    return float((p * (np.log(p) - np.log(q))).sum(-1).mean())


def softmax(logits):
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)


def test_soft_label_kl_matches_the_value_computed_by_hand():
    student = torch.tensor([[0.0, 0.0]])
    teacher = torch.tensor([[math.log(3.0) * 2, 0.0]])  # softened by T=2: 3/4 and 1/4
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert losses.soft_label_kl(student, teacher, 2.0).item() == pytest.approx(expected, abs=1e-6)


def test_soft_label_kl_is_zero_only_where_the_distributions_are_equal():
    logits = torch.randn(5, 3)
    assert losses.soft_label_kl(logits + 7.0, logits, 3.0).item() == pytest.approx(0, abs=1e-6)
    assert losses.soft_label_kl(-logits, logits, 3.0).item() > 0.01


def test_soft_label_gradient_keeps_its_size_when_the_temperature_rises():
    teacher = torch.randn(64, 4) * 0.1
    sizes = []
    for temperature in (10.0, 100.0):
        student = torch.zeros(64, 4, requires_grad=True)
        losses.soft_label_kl(student, teacher, temperature).backward()
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_no_gradient_reaches_the_teacher():
    student, teacher = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    losses.soft_label_kl(student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_hard_label_is_the_mean_negative_log_probability_of_the_truth():
    logits = torch.randn(6, 3)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    reference = -functional.log_softmax(logits, -1)[torch.arange(6), labels].mean()
    assert torch.allclose(losses.hard_label(logits, labels), reference)


def test_rows_without_label_add_nothing_to_losses_of_labels():
    logits, nan = torch.randn(4, 3, requires_grad=True), float("nan")
    one = losses.hard_label(logits, torch.tensor([2, -100, -100, 0]))
    assert torch.allclose(one, losses.hard_label(logits[[0, 3]], torch.tensor([2, 0])) / 2)
    many = losses.hard_label_bce(logits, torch.tensor([[1.0, 0.0, 1.0], *[[nan] * 3] * 3]))
    assert torch.allclose(many, losses.hard_label_bce(logits[:1], torch.tensor([[1.0, 0.0, 1.0]])) / 4)
    assert losses.hard_label(logits, torch.full((4,), -100)) == 0
    (many + one).backward()
    assert bool(logits.grad.isfinite().all())
    assert not logits.grad[1].any()


def test_hidden_cosine_ignores_padding():
    student, teacher = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    value = losses.hidden_cosine(student, teacher, mask)
    student[0, 2:], student[1, 3:] = 99.0, -99.0
    assert torch.allclose(losses.hidden_cosine(student, teacher, mask), value)
    reference = 1 - torch.stack([functional.cosine_similarity(student[b, t], teacher[b, t], dim=0)
                                 for b, t in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))])  # fmt: skip
    assert torch.allclose(value, reference.mean())


def test_hidden_cosine_does_not_depend_on_the_length_of_the_vectors():
    teacher = torch.randn(1, 3, 8)
    mask = torch.ones(1, 3, dtype=torch.long)
    assert losses.hidden_cosine(teacher * 5, teacher, mask).item() == pytest.approx(0, abs=1e-6)
    assert losses.hidden_cosine(-teacher, teacher, mask).item() == pytest.approx(2, abs=1e-6)


def test_wrong_shapes_are_refused_under_test():
    with pytest.raises(Exception, match=r"shape|annotation|type"):
        losses.soft_label_kl(torch.randn(2, 3), torch.randn(2, 4), 1.0)


# --- logits ---------------------------------------------------------------------------------


def test_standardised_logits_have_mean_0_and_deviation_1_in_each_row():
    # Mean 2, squares 1, 1, 0: deviation sqrt(2/3).
    expected = torch.tensor([[-1.0, 1.0, 0.0]]) / math.sqrt(2 / 3)
    assert torch.allclose(losses.standardized(torch.tensor([[1.0, 3.0, 2.0]])), expected, atol=1e-6)


def test_standardised_kl_is_that_of_the_authors_code_at_their_temperature():
    student, teacher, temperature = torch.randn(4, 5), torch.randn(4, 5), 2.0

    def normalize(logits):  # torch's deviation divides by K - 1
        return (logits - logits.mean(-1, keepdim=True)) / (1e-7 + logits.std(-1, keepdim=True))

    reference = (
        functional.kl_div(
            functional.log_softmax(normalize(student) / temperature, 1),
            functional.softmax(normalize(teacher) / temperature, 1),
            reduction="none",
        )
        .sum(1)
        .mean()
    )
    same = temperature * math.sqrt(5 / 4)
    assert torch.allclose(losses.soft_label_kl(student, teacher, same, True) / same**2, reference, rtol=1e-5)


def test_standardised_kl_does_not_see_the_scale_of_the_logits():
    logits = torch.randn(6, 4)
    assert losses.soft_label_kl(logits * 9 - 3, logits, 1.0, True).item() == pytest.approx(0, abs=1e-6)
    assert losses.soft_label_kl(logits * 9 - 3, logits, 1.0, False).item() > 0.1


def test_two_labels_are_not_standardised_because_nothing_would_be_left():
    with pytest.raises(ValueError, match="logits of 2 labels cannot be standardised"):
        losses.standardized(torch.randn(3, 2))


def test_logit_mse_matches_the_value_computed_by_hand():
    assert losses.logit_mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 2.0]])).item() == 4.5


def test_soft_label_bce_matches_the_value_computed_by_hand():
    student, teacher = torch.tensor([[0.0, math.log(4.0) * 2]]), torch.tensor([[math.log(3.0) * 2, 0.0]])
    # Softened by T=2 the teacher says 3/4 and 1/2, the student 1/2 and 4/5.
    expected = -(math.log(0.5) + 0.5 * math.log(0.8) + 0.5 * math.log(0.2)) / 2 * 4
    assert losses.soft_label_bce(student, teacher, 2.0).item() == pytest.approx(expected, abs=1e-5)


def test_soft_label_bce_is_least_at_the_teachers_logits():
    teacher = torch.randn(5, 3)
    student = teacher.clone().requires_grad_()
    losses.soft_label_bce(student, teacher, 3.0).backward()
    assert student.grad.abs().max() < 1e-6
    assert losses.soft_label_bce(teacher + 0.5, teacher, 3.0) > losses.soft_label_bce(teacher, teacher, 3.0)


def test_hard_label_bce_counts_every_label_alone():
    probability = scipy.special.expit(np.array([0.3, -1.2, 2.0]))
    expected = -(np.log(probability[0]) + np.log(1 - probability[1]) + np.log(probability[2])) / 3
    found = losses.hard_label_bce(torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]]))
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_regression_mse_is_the_mean_squared_difference(shape):
    student, teacher = torch.tensor([1.0, 2.0, 3.0, 5.0]).view(shape), torch.tensor([1.0, 0.0, 3.0, 1.0]).view(shape)
    assert losses.regression_mse(student, teacher).item() == 5.0


# --- tokens ---------------------------------------------------------------------------------


def test_token_kl_is_the_mean_over_the_tokens_that_count():
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    counted = mask.bool().numpy()
    expected = 4 * kl(softmax(teacher[counted] / 2), softmax(student[counted] / 2))
    assert losses.token_kl(student, teacher, mask, 2.0).item() == pytest.approx(expected, rel=1e-5)
    student[0, 2] = 99.0
    assert losses.token_kl(student, teacher, mask, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_tokens_that_count_teaches_nothing():
    student = torch.randn(2, 3, 4, requires_grad=True)
    loss = losses.token_kl(student, torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), 1.0)
    loss = loss + losses.hard_token_label(student, torch.full((2, 3), -100))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.abs().max() == 0


def test_masked_lm_kl_compares_the_masked_tokens_in_reading_order():
    student, teacher = torch.randn(2, 3, 7), torch.randn(3, 7)
    selected = torch.tensor([[0, 1, 0], [1, 0, 1]])
    own = np.stack([student[0, 1].numpy(), student[1, 0].numpy(), student[1, 2].numpy()])
    expected = kl(softmax(teacher), softmax(own))
    assert losses.masked_lm_kl(student, teacher, selected, 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_span_kl_is_the_mean_of_start_and_end_over_the_tokens_that_may_answer():
    student, teacher = (torch.randn(2, 4), torch.randn(2, 4)), (torch.randn(2, 4), torch.randn(2, 4))
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0]])
    parts = [
        kl(softmax(other[:, :3] / 3), softmax(own[:, :3] / 3)) for own, other in zip(student, teacher, strict=True)
    ]
    assert losses.span_kl(student, teacher, mask, 3.0).item() == pytest.approx(9 * sum(parts) / 2, rel=1e-5)


def test_span_kl_leaves_no_gradient_where_no_answer_may_be():
    student = (torch.randn(1, 3, requires_grad=True), torch.randn(1, 3, requires_grad=True))
    losses.span_kl(student, (torch.randn(1, 3), torch.randn(1, 3)), torch.tensor([[1, 1, 0]]), 1.0).backward()
    assert student[0].grad[0, 2] == 0
    assert student[0].grad[0, :2].abs().min() > 0


def test_hard_token_label_ignores_tokens_without_a_label():
    logits, labels = torch.randn(2, 3, 4), torch.tensor([[0, -100, 3], [-100, -100, 1]])
    log_probabilities = functional.log_softmax(logits, -1)
    expected = -(log_probabilities[0, 0, 0] + log_probabilities[0, 2, 3] + log_probabilities[1, 2, 1]) / 3
    assert torch.allclose(losses.hard_token_label(logits, labels), expected)


# --- states ---------------------------------------------------------------------------------


def test_hidden_mse_matches_the_value_computed_by_hand_and_ignores_padding():
    student = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 4.0], [1.0, 1.0], [0.0, 0.0]]])
    # Tokens: (0 + 4) / 2 and (1 + 1) / 2; the third is padding.
    assert losses.hidden_mse(student, teacher, torch.tensor([[1, 1, 0]])).item() == 1.5


def test_hidden_mse_without_padding_is_tinyberts():
    student, teacher = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    found = losses.hidden_mse(student, teacher, torch.ones(2, 4, dtype=torch.long))
    assert torch.allclose(found, functional.mse_loss(student, teacher))


def test_first_token_mse_is_pkds_patience_of_one_layer():
    student, teacher = torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    own, other = student[:, 0], teacher[:, 0]
    reference = functional.mse_loss(own / own.norm(dim=1).unsqueeze(1), other / other.norm(dim=1).unsqueeze(1))
    assert torch.allclose(losses.first_token_mse(student, teacher), reference)


def test_first_token_mse_matches_the_value_computed_by_hand():
    # Of length 1: (0.6, 0.8) and (1, 0); squares 0.16 and 0.64, mean 0.4.
    student, teacher = torch.tensor([[[3.0, 4.0], [7.0, 7.0]]]), torch.tensor([[[5.0, 0.0], [0.0, 0.0]]])
    assert losses.first_token_mse(student, teacher).item() == pytest.approx(0.4)


# --- relations ------------------------------------------------------------------------------


def test_attention_scores_are_cut_into_heads_and_scaled():
    queries, keys = torch.tensor([[[1.0, 0.0, 2.0, 1.0]]]), torch.tensor([[[3.0, 5.0, 1.0, 1.0]]])
    found = losses.attention_scores(queries, keys, 2)  # heads of width 2: 3 and 3
    assert torch.allclose(found, torch.tensor([3.0, 3.0]).view(1, 2, 1, 1) / math.sqrt(2))


def test_attention_mse_without_padding_is_tinyberts():
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    found = losses.attention_mse(student, teacher, torch.ones(2, 4, dtype=torch.long))
    assert torch.allclose(found, functional.mse_loss(student, teacher))


def test_attention_mse_counts_pairs_of_tokens_that_are_not_padding():
    student, teacher = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    mask = torch.tensor([[1, 1, 0]])
    expected = (student - teacher)[:, :, :2, :2].square().mean()
    student[:, :, 2, :], student[:, :, :, 2] = 99.0, -99.0
    assert torch.allclose(losses.attention_mse(student, teacher, mask), expected)


def minilm(student, teacher, mask, heads):
    """MiniLMv2's relation loss text by text, head by head, row by row, in numpy."""
    rows = []
    for text in range(len(mask)):
        tokens = int(mask[text].sum())
        for head in range(heads):
            relations = []
            for vectors in (student, teacher):
                part = vectors[text, :tokens].double().numpy()
                width = part.shape[1] // heads
                part = part[:, head * width : (head + 1) * width]
                relations.append(softmax(part @ part.T / math.sqrt(width)))
            rows += [[kl(relations[1][token], relations[0][token])] for token in range(tokens)]
    return float(np.mean(rows))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_relation_kl_is_minilms_with_any_widths_and_padding(heads):
    student, teacher = torch.randn(2, 5, 8), torch.randn(2, 5, 12)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    found = losses.relation_kl(student, teacher, mask, heads)
    assert found.item() == pytest.approx(minilm(student, teacher, mask, heads), rel=1e-4)
    student[1, 3:] = 50.0
    assert torch.allclose(losses.relation_kl(student, teacher, mask, heads), found)


def test_relation_kl_matches_the_value_computed_by_hand():
    # One head of width 1: the student relates both tokens equally, the teacher 3 to 1 and 1 to 1.
    student, teacher = torch.zeros(1, 2, 1), torch.tensor([[[math.sqrt(math.log(3.0))], [0.0]]])
    expected = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert losses.relation_kl(student, teacher, torch.ones(1, 2, dtype=torch.long), 1).item() == pytest.approx(expected)


def test_gradients_of_relations_are_finite_and_spare_padding():
    student = torch.randn(1, 4, 8, requires_grad=True)
    losses.relation_kl(student, torch.randn(1, 4, 8), torch.tensor([[1, 1, 1, 0]]), 2).backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad[0, 3].abs().max() == 0
    assert student.grad[0, :3].abs().max() > 0


# --- embeddings -----------------------------------------------------------------------------


def test_embedding_mse_and_cosine_match_the_values_computed_by_hand():
    student, teacher = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [2.0, 0.0]])
    assert losses.embedding_mse(student, teacher).item() == (16 + 1) / 4
    assert losses.embedding_cosine(student, teacher).item() == pytest.approx(0.2)  # cosines 0.6 and 1


def test_similarity_mse_compares_the_cosines_of_pairs():
    student, teacher = torch.randn(4, 6), torch.randn(4, 9)
    total = 0.0
    for i in range(4):
        for j in range(4):
            own = functional.cosine_similarity(student[i], student[j], dim=0)
            other = functional.cosine_similarity(teacher[i], teacher[j], dim=0)
            total += float(own - other) ** 2 if i != j else 0.0
    assert losses.similarity_mse(student, teacher).item() == pytest.approx(total / 12, rel=1e-5)


def test_similarities_do_not_depend_on_rotation_or_length():
    embeddings = torch.randn(5, 4)
    turned = torch.linalg.qr(torch.randn(4, 4)).Q
    assert losses.similarity_mse(3 * embeddings @ turned, embeddings).item() == pytest.approx(0, abs=1e-9)


def test_one_text_has_no_similarities():
    assert losses.similarity_mse(torch.randn(1, 4), torch.randn(1, 4)).item() == 0


@pytest.mark.parametrize(
    ("name", "shape", "more"),
    [
        ("logit_mse", (3, 4), ()),
        ("soft_label_bce", (3, 4), (2.0,)),
        ("regression_mse", (3,), ()),
        ("token_kl", (2, 3, 4), (torch.ones(2, 3, dtype=torch.long), 2.0)),
        ("hidden_mse", (2, 3, 4), (torch.ones(2, 3, dtype=torch.long),)),
        ("hidden_cosine", (2, 3, 4), (torch.ones(2, 3, dtype=torch.long),)),
        ("first_token_mse", (2, 3, 4), ()),
        ("attention_mse", (2, 2, 3, 3), (torch.ones(2, 3, dtype=torch.long),)),
        ("relation_kl", (2, 3, 4), (torch.ones(2, 3, dtype=torch.long), 2)),
        ("embedding_mse", (3, 4), ()),
        ("embedding_cosine", (3, 4), ()),
        ("similarity_mse", (3, 4), ()),
    ],
)
def test_every_loss_teaches_the_student_and_spares_the_teacher(name, shape, more):
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape, requires_grad=True)
    getattr(losses, name)(student, teacher, *more).backward()
    assert student.grad.abs().max() > 0
    assert teacher.grad is None
