"""Scores in 16 bits: those of the ISS with the replaced constants, and what they tell."""

from dataclasses import replace

import numpy as np
import pytest

from gen.boot.scores import SCORE_BITS, ScoreTable, with_scores
from gen.compile.package import ProgramImage
from gen.machine.iss import Iss
from model.error import InputError
from sim.reference.lanes import pool_words
from tests.gen.random_cases import compile_case


def case(seed):
    found, program = compile_case(seed)
    image = ProgramImage.of(program, model="random", network=found.network)
    pictures = found.images(2, seed)
    acc = found.network.run_batched(pictures, keep=("logits_acc",))["logits_acc"]
    return found.network, program, image, pictures, acc.reshape(len(pictures), -1)


@pytest.mark.parametrize("seed", range(6))
def test_core_computes_the_scores(seed):
    """Equal constants that the program stores once are told apart; unused lanes never win."""
    _, program, image, pictures, acc = case(seed)
    table = ScoreTable.of(image, acc)
    payload, tables = with_scores(image, table, image.memory_words)
    assert (payload != image.payload).sum() >= image.maps["logits_acc"].groups
    iss = Iss(replace(program, payload=payload,
                      memory_words=image.memory_words + len(tables)))
    iss.memory[image.memory_words:] = tables
    lanes = image.maps["logits_acc"].lanes
    for picture, scores in zip(pictures, table.scores(acc), strict=True):
        iss.run(picture)
        words = iss.memory[image.result:][:image.result_words]
        found = pool_words(words, image.config.rows)
        values = np.concatenate([word_values(word, image.config.rows) for word in found])
        assert values[lanes >= 0].tolist() == scores.tolist()
        assert (values[lanes < 0] == -1 << SCORE_BITS - 1).all()


def word_values(word, rows):
    """Scores in a pool word, the lowest first."""
    return np.array([int(word) >> 16 * k & 0xFFFF for k in range(rows // 16)]).astype(np.int16)


def test_precision():
    """No class score is further from its score than half a step and what the factor was rounded by;
    none of the known ones is clipped."""
    _, _, image, _, acc = case(1)
    table = ScoreTable.of(image, acc)
    logits = image.logits["scale"] * acc + image.logits["offset"]
    error = np.abs(table.scores(acc) - logits / table.step)
    assert (error <= 1 + (np.abs(acc) + 1) * 2.0 ** -(table.shift + 1)).all()
    assert np.abs(table.scores(acc)).max() < 1 << SCORE_BITS - 1


def test_other_last_layer():
    """A program whose constants have been replaced already."""
    _, _, image, _, acc = case(2)
    table = ScoreTable.of(image, acc)
    payload, tables = with_scores(image, table, len(image.payload))
    twice = replace(image, payload=np.concatenate([payload, tables]))
    with pytest.raises(InputError, match="does not leave plain accumulators"):
        with_scores(twice, table, image.memory_words)
