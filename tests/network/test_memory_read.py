import jax
import numpy as np
import pytest

from qmra_jax.errors import InputError
from qmra_jax.network.memory_read import READERS, cosine, dot, kernel, l2, topk
from qmra_jax.network.ops import chunked_attention

RNG = np.random.default_rng(0)
QUERY = RNG.standard_normal((2, 3, 4, 8)).astype(np.float32)
KEY = RNG.standard_normal((2, 5, 3, 4, 8)).astype(np.float32)
VALUE = RNG.standard_normal((2, 5, 3, 4, 6)).astype(np.float32)
# The first object's first frames are invalid, so the first part read has no valid place.
VALID = np.array([[False, False, True, True, False], [True, False, True, True, True]])


# Similarities of queries `[12, c]` and keys `[m, c]`, from the papers' equations.


def products(queries, keys):
    return queries @ keys.T / np.sqrt(8)


def squared_distances(queries, keys):
    return -((queries[:, None] - keys[None]) ** 2).sum(-1) / np.sqrt(8)


def angles(queries, keys):
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(keys, axis=1)
    return queries @ keys.T / lengths / 0.2


def seven_largest(queries, keys):
    similarity = products(queries, keys)
    threshold = np.sort(similarity, axis=1)[:, -7, None]
    return np.where(similarity >= threshold, similarity, -np.inf)


def near_best_match(queries, keys):
    """KMN's equations, one memory place at a time."""
    similarity = products(queries, keys)
    for place in range(len(keys)):
        y, x = divmod(int(similarity[:, place].argmax()), 4)
        for query in range(12):
            squared = (query // 4 - y) ** 2 + (query % 4 - x) ** 2
            similarity[query, place] += np.log(np.exp(-squared / (2 * 1.5**2)))
    return similarity


def read_by(similarity, valid):
    """Softmax of the similarities over the valid frames, times values, one object at a time."""
    read_out = []
    for b in range(2):
        keys, values = (x[b, valid[b]].reshape(-1, x.shape[-1]) for x in (KEY, VALUE))
        logits = similarity(QUERY[b].reshape(-1, 8), keys)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        read_out.append(weights / weights.sum(axis=1, keepdims=True) @ values)
    return np.reshape(read_out, (2, 3, 4, 6))


@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "some"])
@pytest.mark.parametrize(
    ("reader", "options", "similarity"),
    [
        (dot, {}, products),
        (dot, {"scale": False}, lambda queries, keys: queries @ keys.T),
        (l2, {}, squared_distances),
        (cosine, {"temperature": 0.2}, angles),
        (kernel, {"sigma": 1.5}, near_best_match),
        (kernel, {"sigma": np.inf}, products),
        (topk, {"k": 7}, seven_largest),
        (topk, {"k": 60}, products),
        (topk, {"k": 999}, products),
    ],
)
def test_a_reader_follows_its_equation_at_once_and_in_parts(reader, options, similarity, valid):
    expected = read_by(similarity, np.ones_like(VALID) if valid is None else valid)
    for rows in ({},) if reader is topk else ({}, {"rows": 0}, {"rows": 1}, {"rows": 5}):
        read_out = reader(QUERY, KEY, VALUE, valid, **options, **rows)
        np.testing.assert_allclose(read_out, expected, atol=1e-5, err_msg=str(rows))


@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "some"])
@pytest.mark.parametrize("reader", [dot, l2, cosine, kernel, topk])
def test_one_query_reads_the_memories_of_several_objects(reader, valid):
    one = reader(QUERY[:1], KEY, VALUE, valid)
    each = reader(np.repeat(QUERY[:1], 2, axis=0), KEY, VALUE, valid)
    np.testing.assert_allclose(one, each, atol=1e-5)


def test_none_is_the_mean_of_the_valid_frames():
    expected = np.stack([VALUE[b, VALID[b]].mean(axis=0) for b in range(2)])
    none = READERS["none"]
    np.testing.assert_allclose(none(QUERY, KEY, VALUE, VALID), expected, atol=1e-6)
    np.testing.assert_allclose(none(QUERY, KEY, VALUE), VALUE.mean(axis=1), atol=1e-6)


def test_cosine_ignores_the_length_of_keys():
    scaled = cosine(3 * QUERY, 0.1 * KEY, VALUE, VALID)
    np.testing.assert_allclose(scaled, cosine(QUERY, KEY, VALUE, VALID), atol=1e-5)


@pytest.mark.parametrize("rows", [0, 3])
def test_large_keys_do_not_overflow(rows):
    assert np.isfinite(dot(QUERY * 1e4, KEY * 1e4, VALUE, rows=rows)).all()


def test_gradients_in_parts_are_those_at_once():
    def loss(arrays, rows):
        return (dot(*arrays, VALID, rows=rows) ** 2).sum()

    arrays = (QUERY, KEY, VALUE)
    for a, b in zip(jax.grad(loss)(arrays, 0), jax.grad(loss)(arrays, 3), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("reader", [dot, lambda *arrays: topk(*arrays, k=7)], ids=["dot", "topk"])
def test_a_large_memory_is_read_in_parts_by_default(reader, monkeypatch):
    def read_and_trace(limit):
        monkeypatch.setattr(chunked_attention, "PLAIN_BYTES", limit)
        jaxpr = jax.make_jaxpr(lambda *arrays: reader(*arrays))(QUERY, KEY, VALUE)
        largest = max(v.aval.size for e in jaxpr.eqns for v in e.outvars)
        return reader(QUERY, KEY, VALUE), largest, "scan" in str(jaxpr)

    whole, largest, scanned = read_and_trace(2**20)
    assert largest == 2 * 12 * 60  # all similarities
    assert not scanned
    parts, largest, scanned = read_and_trace(1)
    assert largest < 2 * 12 * 60
    assert scanned
    np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("reader", "options", "named"),
    [
        (dot, {"rows": 4}, "rows 4: .* 15"),
        (dot, {"rows": -3}, "rows -3: .* 15"),
        (dot, {"rows": 30}, "rows 30: .* 15"),
        (topk, {"k": 0}, "topk k 0"),
        (topk, {"k": 2.5}, "topk k 2.5"),
        (kernel, {"sigma": 0}, "kernel sigma 0"),
        (cosine, {"temperature": -1}, "cosine temperature -1"),
    ],
)
def test_invalid_options_are_rejected(reader, options, named):
    with pytest.raises(InputError, match=named):
        reader(QUERY, KEY, VALUE, **options)
