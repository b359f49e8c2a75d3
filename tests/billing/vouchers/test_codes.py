"""The code of a voucher: what its last letter catches, and what of it is stored."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from blueprints.billing.vouchers import codes

drawn = st.text(codes.ALPHABET, min_size=codes.LENGTH - 1, max_size=codes.LENGTH - 1)
places = st.integers(0, codes.LENGTH - 1)


def test_code_is_long_enough_and_holds_nothing_that_looks_alike() -> None:
    assert (codes.LENGTH - 1) * math.log2(len(codes.ALPHABET)) >= 60
    assert not set("01568BILOSUVZ") & set(codes.ALPHABET)
    made = {codes.make() for _ in range(200)}
    assert len(made) == 200
    assert all(codes.is_whole(code) for code in made)


@given(drawn, st.sampled_from([" ", "-", "  ", " - "]))
def test_code_is_read_as_it_is_printed(body: str, gap: str) -> None:
    code = body + codes.check_letter(body)
    typed = codes.grouped(code).replace(" ", gap).lower()
    assert codes.grouped(code).count(" ") == 3
    assert codes.clean(typed) == code
    assert codes.is_whole(codes.clean(typed))


@given(drawn, places, st.sampled_from(codes.ALPHABET))
def test_one_wrong_letter_is_caught(body: str, place: int, other: str) -> None:
    code = body + codes.check_letter(body)
    typed = code[:place] + other + code[place + 1 :]
    assert codes.is_whole(typed) == (typed == code)


@given(drawn, places, places)
def test_two_letters_that_changed_places_are_caught(body: str, one: int, two: int) -> None:
    code = body + codes.check_letter(body)
    letters = list(code)
    letters[one], letters[two] = letters[two], letters[one]
    typed = "".join(letters)
    assert codes.is_whole(typed) == (typed == code)


@given(st.text(max_size=40))
def test_anything_else_that_is_typed_is_no_code(typed: str) -> None:
    cleaned = codes.clean(typed)
    assert not codes.is_whole(cleaned) or set(cleaned) <= set(codes.ALPHABET)


def test_hash_is_keyed() -> None:
    code = codes.make()
    assert codes.hash_of(b"one", code) != codes.hash_of(b"two", code)
