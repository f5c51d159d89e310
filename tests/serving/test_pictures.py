"""Whatever the bytes of a request are, reading them ends in a picture's bytes or in a sentence."""

import base64
import contextlib
import json
import random

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import RequestError, WrongFieldsError
from serving.http import pictures

FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    + toy.picture(9)
    + b"\r\n--xyz--\r\n"
)
TYPES = st.sampled_from(["multipart/form-data; boundary=xyz", "application/json", "image/png"]) | st.text(max_size=40)


def test_a_form_gives_back_exactly_the_bytes_that_were_put_in():
    assert pictures.one(FORM, "multipart/form-data; boundary=xyz") == toy.picture(9)


@pytest.mark.slow
@given(body=st.binary(max_size=400), content_type=TYPES)
@settings(max_examples=150)
def test_any_bytes_of_any_type_are_read_or_refused_in_a_sentence(body, content_type):
    with contextlib.suppress(RequestError):
        assert pictures.one(body, content_type)
    with contextlib.suppress(RequestError):
        assert pictures.many(body, content_type, most=4)


@pytest.mark.slow
def test_a_form_with_some_bytes_changed_is_read_or_refused_in_a_sentence():
    choose = random.Random(0)
    for _ in range(2000):
        body = bytearray(FORM)
        for _ in range(choose.randint(1, 4)):
            body[choose.randrange(len(body))] = choose.randrange(256)
        cut = body[: choose.randrange(len(body))] if choose.random() < 0.3 else body
        with contextlib.suppress(RequestError):
            pictures.one(bytes(cut), "multipart/form-data; boundary=xyz")


def test_before_the_first_boundary_there_may_be_something_else():
    part = b'--xyz\r\nContent-Disposition: form-data; name="images"\r\n\r\nabc\r\n'
    for before in (b"", b"\r\n"):
        assert pictures.many(before + 4 * part + b"--xyz--\r\n", "multipart/form-data; boundary=xyz", most=4)
        with pytest.raises(WrongFieldsError, match="more than 4 parts"):
            pictures.many(before + 5 * part + b"--xyz--\r\n", "multipart/form-data; boundary=xyz", most=4)


def test_a_form_of_what_looks_like_boundaries_is_refused_before_it_is_read():
    """Each would be looked at byte by byte: seconds for ten megabytes of them."""
    body = FORM.replace(toy.picture(9), b"\r\n--xyz!" * 1000)
    with pytest.raises(WrongFieldsError, match="more than 8 parts"):
        pictures.one(body, "multipart/form-data; boundary=xyz")


@pytest.mark.parametrize("value", ["[" + "{}," * 1000 + "{}]", '{"a":' * 1000 + "1" + "}" * 1000, "[" * 1000])
def test_json_of_many_values_is_refused_before_it_is_read(value: str):
    """Ten megabytes of them would be hundreds in memory, and everyone would wait."""
    with pytest.raises(RequestError, match="more in it than"):
        pictures.one(f'{{"image": {value}}}'.encode(), "application/json")


@pytest.mark.parametrize("number", ["1" * 1_000_000, "1." + "1" * 1_000_000, "1e999999999", "-0." + "0" * 1_000_000])
def test_a_number_is_no_picture_however_long(number: str):
    with pytest.raises(RequestError):
        pictures.one(f'{{"image": {number}}}'.encode(), "application/json")


def test_a_picture_in_json_may_be_a_data_url():
    url = "data:image/png;base64," + base64.b64encode(toy.picture(9)).decode()
    assert pictures.one(json.dumps({"image": url}).encode(), "application/json") == toy.picture(9)
