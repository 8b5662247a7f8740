"""Masks of a whole clip against the PyTorch twin, which sees one object at a time."""

import numpy as np
import pytest

from qmra_jax import weights
from qmra_jax.inference.propagator import Propagator
from tests.support.tiny import TINY

torch = pytest.importorskip("torch", reason="the twin is written in PyTorch")
from benchmarks import torch_qmra  # noqa: E402

# Padded to 32 x 48, a shape that other tests compile, too.
HEIGHT, WIDTH, INTERVAL = 27, 44, 2
FRAMES = np.random.default_rng(1).integers(0, 256, (9, HEIGHT, WIDTH, 3)).astype(np.uint8)
BOXES = np.array([[5, 6, 20, 11], [30, 2, 9, 20]])


def twin_scores(state):
    """Foreground minus background logits `[k, n, h, w]` of every frame after the first."""
    twin = torch_qmra.QMRA(**TINY).eval()
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    padded = np.pad(FRAMES, ((0, 0), (2, 3), (2, 2), (0, 0)))
    images = torch.from_numpy(padded).movedim(-1, 1).float()[:, None] / 255
    scores = []
    with torch.inference_mode():
        for x, y, w, h in BOXES:
            box = torch.zeros(1, 1, 1, *padded.shape[1:3])
            box[..., 2 + y : 2 + y + h, 2 + x : 2 + x + w] = 1
            stored = [twin.memorize(images[:1], box)]
            margins = []
            for k in range(1, len(images)):
                numbers = sorted({0, k - 1, *range(0, k, INTERVAL)})
                outputs, entry = twin.predict(images[k], joined([stored[i] for i in numbers]))
                stored.append(entry)
                refined = outputs["refined"][0, :, 2:-3, 2:-2]
                margins.append((refined[1] - refined[0]).numpy())
            scores.append(margins)
    return np.swapaxes(scores, 0, 1)


def joined(memories):
    """Memories of single frames `[1, 1, ...]` -> one memory `[1, t, ...]`."""
    stages = (
        torch_qmra.KeyValue(*(torch.cat(parts, 1) for parts in zip(*stage, strict=True)))
        for stage in zip(*memories, strict=True)
    )
    return torch_qmra.Memory(*stages)


def test_every_mask_of_a_clip_is_the_twins(tiny_model, tiny_variables):
    propagator = Propagator(tiny_model, tiny_variables, interval=INTERVAL)
    propagator.start(FRAMES[0], BOXES)
    margins = twin_scores(weights.to_torch(tiny_variables))
    for frame, margin in zip(FRAMES[1:], margins, strict=True):
        labels = propagator.step(frame).labels
        scores = np.concatenate([np.zeros((1, HEIGHT, WIDTH)), margin])
        expected = scores.argmax(axis=0)
        # Ignore pixels where the twin's two best labels tie to rounding.
        lead = np.diff(np.sort(scores, axis=0)[-2:], axis=0)[0]
        np.testing.assert_array_equal(labels[lead > 1e-4], expected[lead > 1e-4])
        assert (lead > 1e-4).mean() > 0.99
        assert (np.bincount(expected.ravel(), minlength=3)[1:] > 50).all()  # both objects
