"""JSON5: what is valid is read, what is not is refused at its place and without a word of its text."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.json5 import DEEPEST, NotJson5, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_all_of_json_is_json5(value, ascii_only, indent):
    assert loads(json.dumps(value, ensure_ascii=ascii_only, indent=indent)) == value


@given(st.text())
def test_no_text_brings_anything_but_its_own_error(text):
    for candidate in (text, f"{{a:{text}", f"['{text}"):
        with contextlib.suppress(NotJson5):
            loads(candidate)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("// one\n{ /* two **/ a: 1, } // three", {"a": 1}),
        ("{'a b': 'it\\'s', \"c\": \"\\x41\\u0042\\\nC\"}", {"a b": "it's", "c": "ABC"}),
        ("{$a: [1, 2,], _b: {}, ünïcode: null}", {"$a": [1, 2], "_b": {}, "ünïcode": None}),
        ("[0x1F, -0x10, +1, .5, 5., -1e3, 1E+2, 0]", [31, -16, 1, 0.5, 5.0, -1000.0, 100.0, 0]),
        ("\ufeff\u00a0[true,false]", [True, False]),
        ('"\\ud83d\\ude00 \\0\\v\\/"', "😀 \0\v/"),
        ("{}", {}),
    ],
)
def test_what_json_has_not(text, value):
    assert loads(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1, column 1: the file ends"),
        ('{\n  "a": 1\n  "b": 2}', "line 3, column 3: a comma or } is missing"),
        ('{"a": sk-secret}', "line 1, column 7: a text has to stand in quotes"),
        ("{a: 1, a: 2}", "line 1, column 8: this key is there already"),
        ("{a 1}", "line 1, column 4: a colon is missing"),
        ("{,}", "line 1, column 2: a key is missing"),
        ("[1,,2]", "line 1, column 4: a value is missing"),
        ("{a:'sk-secret\n'}", "line 1, column 4: this text has no closing quote"),
        ("{a: 01}", "line 1, column 5: this is no number"),
        ("[1_0]", "line 1, column 2: this is no number"),
        ("[-Infinity]", "line 1, column 2: this is no number"),
        ("[1e999]", "line 1, column 2: this number is too large"),
        ("[" + "9" * 5000 + "]", "line 1, column 2: this number is too large"),
        ("/* sk-secret", "line 1, column 1: this comment has no end"),
        ("{} sk-secret", "line 1, column 4: there is more"),
        ("['\\1']", "line 1, column 3: this escape is unknown"),
        ("['\\ud83d']", "line 1, column 2: this text holds half a character"),
        ("[" * 100_000, f"line 1, column {DEEPEST + 2}: nested deeper"),
        ("{a: [", "line 1, column 6: the file ends"),
    ],
)
def test_what_is_wrong_is_named_by_its_place_and_not_by_its_text(text, words):
    with pytest.raises(NotJson5) as caught:
        loads(text)
    assert str(caught.value).startswith(words)
    assert "secret" not in str(caught.value)
