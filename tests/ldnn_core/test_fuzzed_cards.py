"""Whatever bytes a card has: it is sound, or refused in a sentence."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ldnn_core import CardError
from ldnn_core.card import ActivationCard
from ldnn_core.card_file import card_of
from tests.corpora import cases
from tests.fuzz import mutated_card
from tests.ldnn_core.spoiled_cards import sound, spoiled

SEEDS = [sound(), *(spoiled(case["card"]) for case in cases("hostile_cards") if "times" not in case["card"])]


def card_or_words(data: bytes) -> ActivationCard | str:
    try:
        return card_of(data)
    except CardError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    words = card_or_words(data)
    assert isinstance(words, str)
    assert "; " in words


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), one=st.sampled_from(SEEDS), other=st.sampled_from(SEEDS))
def test_any_change_to_a_card_gives_a_card_or_a_refusal(seed: int, one: bytes, other: bytes) -> None:
    found = card_or_words(mutated_card(one, other, random.Random(seed)))
    assert isinstance(found, ActivationCard) or ("; " in found and len(found) < 1000)
