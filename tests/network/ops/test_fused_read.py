"""The memory read's kernel, interpreted by JAX on the CPU, against the unfused read."""

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
# 5 frames of 7 x 13 places fill no block exactly; values are wider than keys.
QUERY = RNG.standard_normal((2, 7, 13, 24)).astype(np.float32)
KEY = RNG.standard_normal((2, 5, 7, 13, 24)).astype(np.float32)
VALUE = RNG.standard_normal((2, 5, 7, 13, 40)).astype(np.float32)
VALID = np.array([[True, False, True, True, False], [False, False, False, True, False]])


@pytest.fixture(params=PLATFORMS)
def fused(request, monkeypatch):
    """`dot` with the kernel of each platform."""
    read = fused_read.read

    def interpreted(queries, keys, values, valid, unfused, platform, interpret):
        return read(queries, keys, values, valid, unfused, request.param, interpret)

    monkeypatch.setattr(fused_read, "read", interpreted)
    return lambda *arrays, **options: dot(*arrays, fused="interpret", **options)


@pytest.mark.parametrize(
    ("query", "valid", "atol"),
    [
        (QUERY, None, 1e-5),
        (QUERY, VALID, 1e-5),
        (QUERY[:1], VALID, 1e-5),
        (300 * QUERY, VALID, 1e-4),
    ],
    ids=["all", "some", "one query for two objects", "large similarities"],
)
def test_the_kernel_reads_what_the_unfused_form_reads(fused, query, valid, atol):
    read_out = fused(query, KEY, VALUE, valid)
    assert read_out.dtype == np.float32
    np.testing.assert_allclose(read_out, dot(query, KEY, VALUE, valid, rows=0), atol=atol)


def test_bfloat16_keeps_the_softmax_in_float32(fused):
    arrays = [jnp.asarray(x, jnp.bfloat16) for x in (QUERY, KEY, VALUE)]
    read_out = fused(*arrays, VALID)
    assert read_out.dtype == jnp.bfloat16
    exact = dot(QUERY, KEY, VALUE, VALID, rows=0)
    error_unfused = np.abs(dot(*arrays, VALID, rows=0) - exact).max()
    assert np.abs(read_out - exact).max() < 1.5 * error_unfused < 0.1


def test_the_gradient_is_that_of_the_unfused_form(fused):
    def gradients(read):
        loss = lambda arrays: (read(*arrays, VALID) ** 2).sum()  # noqa: E731
        return jax.grad(loss)((QUERY, KEY, VALUE))

    expected = gradients(lambda *arrays: dot(*arrays, rows=0))
    for ours, theirs in zip(gradients(fused), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_kernel_lowers_for_its_platform_at_the_papers_size(platform, dtype):
    """Lowering only: the platform's own compiler needs the device."""

    def read(queries, keys, values, valid):
        return fused_read.read(queries, keys, values, valid, dot, platform, False)

    shapes = (1, 30, 54, 128), (3, 8, 30, 54, 128), (3, 8, 30, 54, 512)
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    valid = jax.ShapeDtypeStruct((3, 8), bool)
    # JAX 0.12 requires the GPU's kind; other versions ignore it.
    gpu = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    device = gpu if platform == "gpu" else None
    name, kernel = {"gpu": ("cuda", "triton"), "tpu": ("tpu", "tpu_custom_call")}[platform]
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        lowered = jax.jit(read).trace(*arrays, valid).lower(lowering_platforms=(name,))
    assert kernel in lowered.as_text()


@pytest.mark.parametrize(("fused", "named"), [(True, "fused=True on a cpu"), ("yes", "fused=yes")])
def test_a_cpu_and_other_values_are_rejected(fused, named):
    with pytest.raises(InputError, match=named):
        dot(QUERY, KEY, VALUE, fused=fused)
