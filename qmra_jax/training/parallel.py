"""Data parallelism: runs a per-device step under `pmap`, or under `jit` of `shard_map`.

The rest of the package does not depend on which of the two is used.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from einops import rearrange
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qmra_jax.training.train_step import AXIS

Step = Callable[[Any, Any], tuple[Any, Any]]
Devices = Sequence[jax.Device]


def simulate_devices(count: int) -> None:
    """Simulates `count` CPU devices; call before JAX initialises.

    Also raises the time that these devices wait for each other: by default XLA aborts the process
    when one device waits for 40 seconds, which happens on a busy machine or after it slept. Values
    in `XLA_FLAGS` take precedence.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    for name, seconds in (("warn_stuck", 3600), ("terminate", 10**6)):
        flag = f"--xla_cpu_collective_call_{name}_timeout_seconds"
        flags += "" if flag in flags else f" {flag}={seconds}"
    os.environ["XLA_FLAGS"] = flags.strip()
    jax.config.update("jax_num_cpu_devices", count)


def in_order(devices: Devices | None) -> list[jax.Device]:
    """Devices in the order in which they take the examples of the batch: process 0's first.

    Args:
      devices: devices of all processes; None for all devices.
    """
    return sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))


def with_pmap(step: Step, devices: Devices) -> Step:
    """Wraps `step` in `jax.pmap`: the state is replicated, the batch split."""
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=devices,
        donate_argnums=0,
    )
    local = len(_local(devices))

    def call(state, batch):
        return mapped(
            state, jax.tree.map(lambda x: rearrange(x, "(d b) ... -> d b ...", d=local), batch)
        )

    return call


def with_shard_map(step: Step, devices: Devices) -> Step:
    """Wraps `step` in `jax.jit(jax.shard_map)`; computes the same numbers as `with_pmap`."""
    mesh = Mesh(np.asarray(devices), (AXIS,))
    mapped = jax.jit(
        jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P())),
        donate_argnums=0,
    )
    split = NamedSharding(mesh, P(AXIS))

    def call(state, batch):
        return mapped(
            state, jax.tree.map(lambda x: jax.make_array_from_process_local_data(split, x), batch)
        )

    return call


WRAPPERS: dict[str, Callable[[Step, Devices], Step]] = {
    "pmap": with_pmap,
    "shard_map": with_shard_map,
}


def parallelize(step: Step, mode: str = "pmap", devices: Devices | None = None) -> Step:
    """Runs a per-device step on all devices.

    Args:
      step: (state, the device's share of the batch) -> (state, metrics), with collectives over the
        axis `train_step.AXIS`.
      mode: a key of `WRAPPERS`.
      devices: devices of all processes; None for all devices.

    Returns:
      (state, batch) -> (state, metrics). `state` comes from `replicate` and is donated; `batch` is
      NumPy arrays `[local batch, ...]`, this process's contiguous part of the global batch, split
      evenly over its devices in their order.
    """
    return WRAPPERS[mode](step, in_order(devices))


def replicate(tree, mode: str = "pmap", devices: Devices | None = None):
    """Copies a tree to every device, as the state of a parallelised step.

    Args:
      tree: NumPy arrays, or JAX arrays on any devices; the same in every process.
      mode: of the step; pmap takes arrays on this process's devices only.
      devices: as in `parallelize`.
    """
    devices = in_order(devices)
    mesh = Mesh(np.asarray(_local(devices)), (AXIS,))
    tree = jax.device_put(jax.tree.map(_on_this_process, tree), NamedSharding(mesh, P()))
    if mode == "pmap":
        return tree
    everywhere = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), P())
    return jax.tree.map(
        lambda x: jax.make_array_from_single_device_arrays(
            x.shape, everywhere, [shard.data for shard in x.addressable_shards]
        ),
        tree,
    )


def local_copy(tree):
    """One local device's copy of a replicated tree; no data is copied.

    It is the memory of the step's state: use it before the next step, which is donated that memory.
    """
    return jax.tree.map(_on_this_process, tree)


def _on_this_process(x):
    return x.addressable_data(0) if isinstance(x, jax.Array) else x


def _local(devices: Devices) -> list[jax.Device]:
    return [device for device in devices if device.process_index == jax.process_index()]
