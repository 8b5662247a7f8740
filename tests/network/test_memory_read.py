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
# The first object's first frames do not count, so that reading in parts begins with nothing.
VALID = np.array([[False, False, True, True, False], [True, False, True, True, True]])


def by_the_equation(query, key, value, scale):
    """Eq. 6, one object and one place of the query at a time."""
    out = np.zeros((*query.shape[:3], value.shape[-1]))
    for b, y, x in np.ndindex(*query.shape[:3]):
        similarity = key[b].reshape(-1, key.shape[-1]) @ query[b, y, x] * scale
        weights = np.exp(similarity - similarity.max())
        out[b, y, x] = weights / weights.sum() @ value[b].reshape(-1, value.shape[-1])
    return out


def test_dot_is_equation_6_with_stm_s_scale():
    expected = by_the_equation(QUERY, KEY, VALUE, 1 / np.sqrt(8))
    np.testing.assert_allclose(dot(QUERY, KEY, VALUE), expected, atol=1e-5)


def test_the_scale_can_be_left_out_as_the_equation_has_it():
    expected = by_the_equation(QUERY, KEY, VALUE, 1.0)
    np.testing.assert_allclose(dot(QUERY, KEY, VALUE, scale=False), expected, atol=1e-5)


@pytest.mark.parametrize("rows", [None, 0])
def test_frames_are_read_as_if_those_that_do_not_count_were_not_there(rows):
    """None is what inference on a CPU does: an object and a frame at a time."""
    for query in (QUERY, np.repeat(QUERY[:1], 2, axis=0)):
        read = dot(query, KEY, VALUE, VALID, rows=rows)
        for b in range(2):
            kept = (query[b : b + 1], KEY[b : b + 1, VALID[b]], VALUE[b : b + 1, VALID[b]])
            np.testing.assert_allclose(read[b : b + 1], dot(*kept), atol=1e-5)


def test_one_query_reads_the_memories_of_several_objects():
    for valid in (None, VALID):
        one = dot(QUERY[:1], KEY, VALUE, valid)
        each = dot(np.repeat(QUERY[:1], 2, axis=0), KEY, VALUE, valid)
        np.testing.assert_allclose(one, each, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("scale", [True, False])
def test_reading_in_parts_gives_the_same(rows, scale):
    for valid in (None, VALID):
        whole = dot(QUERY, KEY, VALUE, valid, scale=scale, rows=0)
        found = dot(QUERY, KEY, VALUE, valid, scale=scale, rows=rows)
        np.testing.assert_allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize("rows", [4, -3, 30])
def test_parts_that_do_not_divide_the_memory_are_refused(rows):
    with pytest.raises(InputError, match=f"rows {rows}: .* 15"):
        dot(QUERY, KEY, VALUE, rows=rows)


def test_reading_in_parts_has_the_same_gradients():
    def loss(arrays, rows):
        return (dot(*arrays, VALID, rows=rows) ** 2).sum()

    arrays = (QUERY, KEY, VALUE)
    for a, b in zip(jax.grad(loss)(arrays, 0), jax.grad(loss)(arrays, 3), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_large_memory_is_read_in_parts_unasked(monkeypatch):
    def largest(limit):
        monkeypatch.setattr(chunked_attention, "PLAIN_BYTES", limit)
        jaxpr = jax.make_jaxpr(lambda *arrays: dot(*arrays))(QUERY, KEY, VALUE)
        return max(v.aval.size for e in jaxpr.eqns for v in e.outvars), "scan" in str(jaxpr)

    plain, scanned = largest(2**20)
    assert plain == 2 * 12 * 60
    assert not scanned
    parts, scanned = largest(4 * 2 * 12 * 4)  # one row of four places
    assert parts < plain
    assert scanned


@pytest.mark.parametrize("rows", [0, 3])
def test_large_keys_do_not_overflow(rows):
    assert np.isfinite(dot(QUERY * 1e4, KEY * 1e4, VALUE, rows=rows)).all()


# ------------------------------------------------------------------ other readers


def softmax_of(similarity, values):
    """Similarities `[q, m]` and values `[m, c]` to what is read."""
    weights = np.exp(similarity - similarity.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ values


def by_similarity(similarity):
    """What is read by `similarity(queries [q, c], keys [m, c])`, of the frames that count."""
    out = []
    for b in range(2):
        keys, values = (x[b, VALID[b]].reshape(-1, x.shape[-1]) for x in (KEY, VALUE))
        found = softmax_of(similarity(QUERY[b].reshape(-1, 8), keys), values)
        out.append(found.reshape(3, 4, 6))
    return np.stack(out)


def test_l2_is_stcn_s_negative_squared_distance():
    def similarity(queries, keys):
        return -((queries[:, None] - keys[None]) ** 2).sum(-1) / np.sqrt(8)

    np.testing.assert_allclose(l2(QUERY, KEY, VALUE, VALID), by_similarity(similarity), atol=1e-5)


def test_cosine_sees_the_angle_between_keys_alone():
    def similarity(queries, keys):
        lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(keys, axis=1)
        return queries @ keys.T / lengths / 0.2

    found = cosine(QUERY, KEY, VALUE, VALID, temperature=0.2)
    np.testing.assert_allclose(found, by_similarity(similarity), atol=1e-5)
    scaled = cosine(3 * QUERY, 0.1 * KEY, VALUE, VALID, temperature=0.2)
    np.testing.assert_allclose(scaled, found, atol=1e-5)


def test_topk_reads_the_k_most_similar_places_alone():
    def similarity(queries, keys):
        found = queries @ keys.T / np.sqrt(8)
        least = np.sort(found, axis=1)[:, -7, None]
        return np.where(found >= least, found, -np.inf)

    found = topk(QUERY, KEY, VALUE, VALID, k=7)
    np.testing.assert_allclose(found, by_similarity(similarity), atol=1e-5)


def test_kernel_reads_near_where_each_memory_place_matches():
    """KMN's equations, one memory place at a time."""

    def similarity(queries, keys):
        found = queries @ keys.T / np.sqrt(8)
        for place in range(len(keys)):
            y, x = divmod(int(found[:, place].argmax()), 4)
            for query in range(12):
                squared = (query // 4 - y) ** 2 + (query % 4 - x) ** 2
                found[query, place] += np.log(np.exp(-squared / (2 * 1.5**2)))
        return found

    found = kernel(QUERY, KEY, VALUE, VALID, sigma=1.5)
    np.testing.assert_allclose(found, by_similarity(similarity), atol=1e-5)


def test_none_is_the_mean_of_the_frames_that_count():
    found = READERS["none"](QUERY, KEY, VALUE, VALID)
    expected = np.stack([VALUE[b, VALID[b]].mean(axis=0) for b in range(2)])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(READERS["none"](QUERY, KEY, VALUE), VALUE.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "same",
    [lambda *x: topk(*x, k=60), lambda *x: topk(*x, k=999), lambda *x: kernel(*x, sigma=np.inf)],
)
def test_all_of_the_places_or_no_prior_is_dot(same):
    for valid in (None, VALID):
        expected = dot(QUERY, KEY, VALUE, valid)
        np.testing.assert_allclose(same(QUERY, KEY, VALUE, valid), expected, atol=1e-5)


@pytest.mark.parametrize("reader", [l2, cosine, kernel])
def test_the_other_softmaxes_read_in_parts_too(reader):
    whole = reader(QUERY[:1], KEY, VALUE, VALID, rows=0)
    for rows in (None, 1, 5):
        found = reader(QUERY[:1], KEY, VALUE, VALID, rows=rows)
        np.testing.assert_allclose(found, whole, atol=1e-5)


def test_a_large_memory_s_topk_is_read_for_some_rows_of_the_query_at_a_time(monkeypatch):
    whole = topk(QUERY[:1], KEY, VALUE, VALID, k=7)
    monkeypatch.setattr(chunked_attention, "PLAIN_BYTES", 1)
    np.testing.assert_allclose(topk(QUERY[:1], KEY, VALUE, VALID, k=7), whole, atol=1e-6)
    jaxpr = jax.make_jaxpr(lambda *x: topk(*x, k=7))(QUERY, KEY, VALUE)
    assert "scan" in str(jaxpr)


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda *x: topk(*x, k=0), "topk k 0"),
        (lambda *x: topk(*x, k=2.5), "topk k 2.5"),
        (lambda *x: kernel(*x, sigma=0), "kernel sigma 0"),
        (lambda *x: cosine(*x, temperature=-1), "cosine temperature -1"),
    ],
)
def test_options_that_mean_nothing_are_refused(read, says):
    with pytest.raises(InputError, match=says):
        read(QUERY, KEY, VALUE)
