"""The memory read's kernel, played by JAX on the CPU, against the form without a kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from qmra_jax.errors import InputError
from qmra_jax.network.memory_read import dot
from qmra_jax.network.ops import fused_read

RNG = np.random.default_rng(0)
PLATFORMS = ("gpu", "tpu")
# 7 x 13 places a frame and 5 of them: no whole number of any block; values wider than keys.
QUERY = RNG.standard_normal((2, 7, 13, 24)).astype(np.float32)
KEY = RNG.standard_normal((2, 5, 7, 13, 24)).astype(np.float32)
VALUE = RNG.standard_normal((2, 5, 7, 13, 40)).astype(np.float32)
VALID = np.array([[True, False, True, True, False], [False, False, False, True, False]])


@pytest.fixture(params=PLATFORMS)
def fused(request, monkeypatch):
    """`dot` by the kernel of each platform."""
    read = fused_read.read

    def played(queries, keys, values, valid, like, platform, interpret):
        return read(queries, keys, values, valid, like, request.param, interpret)

    monkeypatch.setattr(fused_read, "read", played)
    return lambda *arrays, **options: dot(*arrays, fused="interpret", **options)


@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "some"])
def test_it_reads_what_the_plain_form_reads(fused, valid):
    found = fused(QUERY, KEY, VALUE, valid)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, dot(QUERY, KEY, VALUE, valid, rows=0), atol=1e-5)


def test_one_query_reads_the_memories_of_several_objects(fused):
    np.testing.assert_allclose(
        fused(QUERY[:1], KEY, VALUE, VALID), dot(QUERY[:1], KEY, VALUE, VALID, rows=0), atol=1e-5
    )


def test_large_similarities_neither_overflow_nor_vanish(fused):
    query = 300 * QUERY
    np.testing.assert_allclose(
        fused(query, KEY, VALUE, VALID), dot(query, KEY, VALUE, VALID, rows=0), atol=1e-4
    )


def test_it_computes_in_bfloat16_and_takes_the_softmax_in_float32(fused):
    arrays = [jnp.asarray(x, jnp.bfloat16) for x in (QUERY, KEY, VALUE)]
    found = fused(*arrays, VALID)
    assert found.dtype == jnp.bfloat16
    exact = dot(QUERY, KEY, VALUE, VALID, rows=0)
    plain = np.abs(dot(*arrays, VALID, rows=0) - exact).max()
    assert np.abs(found - exact).max() < 1.5 * plain < 0.1


def test_its_gradient_is_that_of_the_form_without_a_kernel(fused):
    def loss(read, arrays):
        return (read(*arrays, VALID) ** 2).sum()

    arrays = QUERY, KEY, VALUE
    found = jax.grad(lambda arrays: loss(fused, arrays))(arrays)
    expected = jax.grad(lambda arrays: loss(lambda *a: dot(*a, rows=0), arrays))(arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_lowers_for_its_platform_at_the_papers_size(platform, dtype):
    """As far as a machine without one can tell: the platform's own compiler comes after."""

    def read(queries, keys, values, valid):
        return fused_read.read(queries, keys, values, valid, dot, platform, False)

    shapes = (1, 30, 54, 128), (3, 8, 30, 54, 128), (3, 8, 30, 54, 512)
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    valid = jax.ShapeDtypeStruct((3, 8), bool)
    names = {"gpu": "cuda", "tpu": "tpu"}
    # Newer versions ask for which GPU; the others take no notice.
    gpu = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    with use_abstract_mesh(
        AbstractMesh((), (), abstract_device=gpu if platform == "gpu" else None)
    ):
        text = jax.jit(read).trace(*arrays, valid).lower(lowering_platforms=(names[platform],))
    assert {"gpu": "triton", "tpu": "tpu_custom_call"}[platform] in text.as_text()


def test_a_cpu_is_refused_and_so_is_another_value():
    with pytest.raises(InputError, match=r"dot:fused=True on a cpu: the kernel is for a GPU or a"):
        dot(QUERY, KEY, VALUE, fused=True)
    with pytest.raises(InputError, match="fused=yes: expected True, False or interpret"):
        dot(QUERY, KEY, VALUE, fused="yes")
