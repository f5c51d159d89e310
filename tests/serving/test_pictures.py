"""Whatever the bytes of a request are, reading them ends in a picture's bytes or in a sentence."""

import contextlib
import random

import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import RequestError
from serving.http import pictures

FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    + toy.picture(9)
    + b"\r\n--xyz--\r\n"
)
TYPES = st.sampled_from(["multipart/form-data; boundary=xyz", "application/json", "image/png"]) | st.text(max_size=40)


def test_a_form_gives_back_exactly_the_bytes_that_were_put_in():
    assert pictures.one(FORM, "multipart/form-data; boundary=xyz") == toy.picture(9)


@given(body=st.binary(max_size=400), content_type=TYPES)
@settings(max_examples=150)
def test_any_bytes_of_any_type_are_read_or_refused_in_a_sentence(body, content_type):
    with contextlib.suppress(RequestError):
        assert pictures.one(body, content_type)
    with contextlib.suppress(RequestError):
        assert pictures.many(body, content_type, most=4)


def test_a_form_with_some_bytes_changed_is_read_or_refused_in_a_sentence():
    choose = random.Random(0)
    for _ in range(2000):
        body = bytearray(FORM)
        for _ in range(choose.randint(1, 4)):
            body[choose.randrange(len(body))] = choose.randrange(256)
        cut = body[: choose.randrange(len(body))] if choose.random() < 0.3 else body
        with contextlib.suppress(RequestError):
            pictures.one(bytes(cut), "multipart/form-data; boundary=xyz")
