"""How a per-device step meets the devices: pmap, or jit of shard_map. Nothing else knows which."""

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
    """So many CPU devices, before JAX has met any, that wait for each other as long as it takes.

    XLA otherwise aborts the process when one device waits for another for 40 seconds, as happens
    on a busy machine, or on one that slept. What `XLA_FLAGS` says of it comes first.

    Args:
      count: at least 1.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    for name, seconds in (("warn_stuck", 3600), ("terminate", 10**6)):
        flag = f"--xla_cpu_collective_call_{name}_timeout_seconds"
        flags += "" if flag in flags else f" {flag}={seconds}"
    os.environ["XLA_FLAGS"] = flags.strip()
    jax.config.update("jax_num_cpu_devices", count)


def in_order(devices: Devices | None) -> list[jax.Device]:
    """Devices as the batch is dealt to them: those of process 0 first, as its examples are.

    Args:
      devices: of all processes; None for all there are.
    """
    return sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))


def with_pmap(step: Step, devices: Devices) -> Step:
    """`step` on every device by `jax.pmap`: state whole and replicated, batch split."""
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
    """`step` on every device by `jax.jit(jax.shard_map)`: the same numbers as `with_pmap`."""
    mesh = Mesh(np.asarray(devices), (AXIS,))
    mapped = jax.jit(
        jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P())),
        donate_argnums=0,
    )
    split = NamedSharding(mesh, P(AXIS))

    def call(state, batch):
        return mapped(
            state,
            jax.tree.map(lambda x: jax.make_array_from_process_local_data(split, x), batch),
        )

    return call


WRAPPERS: dict[str, Callable[[Step, Devices], Step]] = {
    "pmap": with_pmap,
    "shard_map": with_shard_map,
}


def parallelize(step: Step, mode: str = "pmap", devices: Devices | None = None) -> Step:
    """Wraps a per-device step.

    Args:
      step: (state, this device's share of the batch) -> (state, metrics), with collectives over
        the axis `train_step.AXIS`.
      mode: a name of `WRAPPERS`.
      devices: of all processes; None for all there are.

    Returns:
      (state, batch) -> (state, metrics): `state` as `replicate` gives it, which is donated; `batch`
      NumPy arrays `[local batch, ...]`, this process's contiguous part of the global batch, whose
      first axis its devices share in their order.
    """
    return WRAPPERS[mode](step, in_order(devices))


def replicate(tree, mode: str = "pmap", devices: Devices | None = None):
    """One whole copy a device, which the step of that mode may consume.

    Args:
      tree: arrays, the same in every process: NumPy's, or JAX's on any devices.
      mode: of the step: pmap takes what lies on this process's devices alone.
      devices: as `parallelize`'s.
    """
    devices = in_order(devices)
    mesh = Mesh(np.asarray(_local(devices)), (AXIS,))
    tree = jax.device_put(jax.tree.map(_on_this_process, tree), NamedSharding(mesh, P()))
    return tree if mode == "pmap" else as_global(tree, devices)


def as_global(tree, devices: Devices | None = None):
    """A replicated tree, of either wrapper, as arrays over all processes' devices; nothing moves.

    Args:
      tree: what `replicate` or a step gave.
      devices: as `parallelize`'s.
    """
    replicated = NamedSharding(Mesh(np.asarray(in_order(devices)), (AXIS,)), P())
    return jax.tree.map(
        lambda x: jax.make_array_from_single_device_arrays(
            x.shape, replicated, [shard.data for shard in x.addressable_shards]
        ),
        tree,
    )


def local_copy(tree):
    """One device's copy of a replicated tree, for what a process computes by itself; nothing moves.

    It is the step's own memory: take what is needed of it before the next step.
    """
    return jax.tree.map(_on_this_process, tree)


def _on_this_process(x):
    return x.addressable_data(0) if isinstance(x, jax.Array) else x


def _local(devices: Devices) -> list[jax.Device]:
    return [device for device in devices if device.process_index == jax.process_index()]
