"""Processes make the same batches as tf.data, without TensorFlow, and leave nothing behind."""

import contextlib
import gc
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from configs import common
from data_pipeline.triplets import worker
from data_pipeline.triplets.examples import HostExamples, open_examples
from data_pipeline.triplets.process_stream import HELD, ProcessStream
from data_pipeline.triplets.stream import open_stream
from qmra_jax.errors import InputError
from tests.support.datasets import add_pair, add_video, save, square
from tests.support.stub_examples import Probe, Stub

ROOT = Path(__file__).parents[3]
BATCH = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six image and mask pairs, and two videos of six frames."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(6):
        add_pair(root / "stills", f"{i}", suffix=".png")
        noise = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
        save(root / f"stills/images/{i}.png", noise)
    for name in ("bear", "swan"):
        add_video(root / "davis", name, [square(left=5 + k) for k in range(6)], "train")
    return root


@pytest.fixture
def data(root):
    data = common.get_config().data
    data.update(root=str(root), static=("stills",), videos=("davis:train",), crop=32, workers=2)
    data.update(video_share=((0, 0.5),), colour_jitter=0.2, distractors=0.3, loader="processes")
    return data


def take(data, steps, **options):
    options = {"seed": 3, "global_batch": BATCH} | options
    with contextlib.closing(open_stream(data, **options)) as stream:
        return list(itertools.islice(stream, steps))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


def workers():
    """The worker processes of this one; other tests may have left other children."""
    return [c for c in psutil.Process().children() if worker.__name__ in c.cmdline()]


def test_the_batches_are_those_of_tf_data_from_any_step_on(data):
    ran = take(data, 2 * HELD + 4)  # more than it may hold without a copy
    resumed = take(data, len(ran) - 5, start_step=5)
    data.loader = "tf.data"
    for ours, theirs in zip(ran + resumed, take(data, len(ran)) + ran[5:], strict=True):
        assert_same(ours, theirs)


def test_workers_import_neither_jax_nor_tensorflow(data):
    examples = HostExamples(open_examples(data, seed=0, global_batch=BATCH), 0, 0, BATCH)
    with contextlib.closing(ProcessStream(Probe(examples), workers=1, prefetch=0)) as stream:
        assert set(next(stream)["id"]) == {b""}


@pytest.mark.parametrize("prefetch", [0, 3])
def test_no_batch_overwrites_an_array_that_is_still_held(prefetch):
    held = {}
    with contextlib.closing(ProcessStream(Stub(), workers=2, prefetch=prefetch)) as stream:
        for step, batch in enumerate(itertools.islice(stream, 40)):
            numbers = np.arange(BATCH * step, BATCH * (step + 1))
            np.testing.assert_array_equal(batch["boxes"][:, 0, 0], numbers)
            np.testing.assert_array_equal(batch["images"][:, 2, 3, 4, 1], numbers % 251)
            if step in (3, 4, 20):
                held[step] = batch["masks"][1:, 0, :2]  # a part of one array
    for step, part in held.items():
        assert set(part.flat) == {BATCH * step + k for k in (1, 2, 3)}
        np.testing.assert_array_equal(part[:, 0, 0], BATCH * step + np.arange(1, 4))


def test_arrays_are_not_copied_as_long_as_few_are_held():
    with contextlib.closing(ProcessStream(Stub(), workers=1, prefetch=1)) as stream:
        kept = [next(stream) for _ in range(HELD - 1)]
        assert all(next(stream)["images"].base is not None for _ in range(6))
        last = next(stream)
        assert all(next(stream)["images"].base is None for _ in range(6))
        assert len(kept) + len([last]) == HELD


def test_a_slow_example_delays_no_others(tmp_path):
    examples = Stub(slow=0, released=str(tmp_path / "released"))  # by the last of two batches
    with contextlib.closing(ProcessStream(examples, workers=2, prefetch=1)) as stream:
        first, second = next(stream), next(stream)
    slow, *others = [*first["id"], *second["id"]]
    assert slow not in others


def test_a_bad_file_ends_the_stream_at_its_batch(data, root, tmp_path):
    for i in range(6):
        add_pair(tmp_path / "stills", f"{i}", size=(200, 160))
    torn = tmp_path / "stills/images/3.jpg"
    torn.write_bytes(torn.read_bytes()[:-200])
    data.update(static=(str(tmp_path / "stills"),), video_share=((0, 0.0),), videos=())
    data.update(distractors=0.0)
    messages = set()
    for loader in ("processes", "tf.data"):
        data.loader = loader
        stream, count = open_stream(data, seed=3, global_batch=2), 0
        with pytest.raises(InputError, match=r"image .*3\.jpg") as error:  # noqa: PT012
            for _ in stream:
                count += 1
        assert next(stream, None) is None
        messages.add((count, str(error.value)))
    assert len(messages) == 1
    assert not workers()


def test_any_other_error_is_raised_with_its_traceback():
    with contextlib.closing(ProcessStream(Stub(broken=5), workers=2, prefetch=2)) as stream:
        next(stream)
        with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError: exam"):
            next(stream)


def test_a_killed_worker_is_an_error_and_not_waited_for():
    stream = ProcessStream(Stub(), workers=2, prefetch=1)
    next(stream)
    victim = workers()[0]
    victim.kill()
    with pytest.raises(RuntimeError, match=f"pid {victim.pid}.* by SIGKILL"):
        list(itertools.islice(stream, 100))
    assert next(stream, None) is None
    assert not workers()


def test_workers_ignore_signals_that_are_meant_for_their_parent():
    with contextlib.closing(ProcessStream(Stub(), workers=2, prefetch=1)) as stream:
        next(stream)
        for number, worker in itertools.product((signal.SIGTERM, signal.SIGINT), workers()):
            worker.send_signal(number)
        time.sleep(0.2)
        assert len(list(itertools.islice(stream, 5))) == 5
        assert len(workers()) == 2


def test_a_closed_or_deleted_stream_leaves_nothing_behind():
    def resources():
        """Open pipes and mappings of the streams' memory."""
        files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        pipes = sorted(file for file in files if file.startswith("pipe:"))
        return pipes, Path("/proc/self/maps").read_text().count("qmra-batch")

    gc.collect()
    before = resources()
    stream = ProcessStream(Stub(), workers=2, prefetch=1)
    batch = next(stream)
    assert len(workers()) == 2
    assert resources() != before
    stream.close()
    stream.close()
    assert not workers()
    assert next(stream, None) is None
    assert set(batch["images"][2].flat) == {2}  # still valid
    other = ProcessStream(Stub(), workers=1, prefetch=1)
    assert len(workers()) == 1
    del stream, batch, other
    gc.collect()
    assert not workers()
    assert resources() == before


def test_workers_end_when_their_parent_is_killed():
    program = (
        "from data_pipeline.triplets.process_stream import ProcessStream\n"
        "from tests.support.stub_examples import Stub\n"
        "import psutil, time\n"
        "stream = ProcessStream(Stub(), workers=2, prefetch=1)\n"
        "next(stream)\n"
        "print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    started = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(started) == 2
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_each_warning_is_logged_once(caplog):
    with contextlib.closing(ProcessStream(Stub(warning="odd"), workers=2, prefetch=1)) as stream:
        next(stream), next(stream)
    assert caplog.messages == ["odd"]


WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("tensorflow", "tensorflow_datasets", "av")
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""


def without_tensorflow(folder, *arguments):
    """Runs Python and its child processes as if TensorFlow were not installed."""
    (folder / "sitecustomize.py").write_text(WITHOUT)  # imported when Python starts
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_trainer_can_be_imported_without_tensorflow(tmp_path):
    done = without_tensorflow(tmp_path, "-c", "import train, tensorflow")
    assert "No module named 'tensorflow'" in done.stderr
    assert done.stderr.count("File ") == 1  # the command's own import fails


@pytest.mark.slow
def test_training_needs_no_tensorflow(tiny_davis, tmp_path):
    run, never = tmp_path / "run", 99
    command = ["-m", "tests.support.stops_itself", signal.SIGTERM.value, never]
    command += ["--config=tests/support/tiny_config.py", f"--workdir={run}"]
    command += [f"--config.data.root={tiny_davis}", "--config.data.loader=processes"]
    command += ["--config.steps=2", "--config.picture_every=2", "--config.data.workers=2"]
    done = without_tensorflow(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert (run / "checkpoints/2").is_dir()
    assert list((run / "tensorboard").iterdir())
