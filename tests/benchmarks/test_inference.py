"""The inference benchmark compares equal results alone."""

import numpy as np
import pytest

from benchmarks import inference
from benchmarks.clip import FRAMES, Clip
from qmra_jax.errors import InputError
from tests.support.contenders import finished


def test_the_clip_s_boxes_hold_its_discs():
    clip = Clip(height=48, width=96, objects=3)
    frames, boxes = clip.frames(), clip.boxes()
    assert frames.shape == (FRAMES, 48, 96, 3)
    assert frames.dtype == np.uint8
    for n, (x, y, w, h) in enumerate(boxes):
        assert 0 <= x <= x + w <= 96
        assert 0 <= y <= y + h <= 48
        centre = frames[0, y + h // 2 - 2 : y + h // 2 + 2, x + w // 2 - 2 : x + w // 2 + 2]
        colour = (90 + 40 * n, 230 - 35 * n, 60 + 60 * (n % 3))
        np.testing.assert_allclose(centre.mean(axis=(0, 1)), colour, atol=12)


BLANK = {
    "labels": np.zeros((20, 50), np.uint8),
    "probabilities": np.zeros((2, 20, 50)),
    "differ": 0.0,
}


def test_programs_with_different_results_are_not_compared():
    clip, ours = Clip(), finished("ours", [1], **BLANK)
    one_off = BLANK["labels"].copy()
    one_off[0, 0] = 1
    rounding = finished("PyTorch", [1], **BLANK | {"labels": one_off})
    inference.check_same(clip, [ours, rounding])
    assert rounding.facts["differ"] == 0.001
    for facts, message in (
        ({"labels": one_off + 2}, r"PyTorch: 100\.00%"),
        ({"probabilities": np.full((2, 20, 50), 0.1)}, r"0\.1000"),
    ):
        with pytest.raises(InputError, match=message):
            inference.check_same(clip, [ours, finished("PyTorch", [1], **BLANK | facts)])


def test_the_table_has_speeds_ratios_and_failures():
    failed = finished("torch.compile", [])
    failed.failure = "no compiler"
    programs = [finished(*run, **BLANK) for run in (("ours", [1, 9, 1]), ("PyTorch", [2, 18, 2]))]
    ours, twin, broken = inference.rows(Clip(), [*programs, failed], flops=50 * 10**9)
    assert list(ours.values()) == [
        *("small", "480p", 1, 5, "ours"),
        *(1, 1000, 2000, 0.5, 1, 1, "1.00 to 1.00", "0.000%"),
    ]
    assert (twin["our speed / its"], twin["single turns"]) == (2, "2.00 to 2.00")
    assert broken["labels that differ"] == "no compiler"
    assert list(ours) == list(twin) == list(broken)


def test_several_objects_are_timed_relative_to_one():
    names = (*inference.CASE, "ms a frame")
    cases = [("small", "480p", n, 5, "ours", ms) for n, ms in ((1, 400), (3, 900), (5, "-"))]
    table = inference.objects_table([dict(zip(names, case, strict=True)) for case in cases])
    assert table.rows == [["small", "480p", 3, 5, "ours", 2.25]]


def test_the_twin_s_frame_step_is_its_network_frame_by_frame():
    """Folded, batched, sharing: the same as the plain network with each object by itself."""
    torch = pytest.importorskip("torch", reason="the twin is written in PyTorch")
    from benchmarks import torch_inference, torch_qmra

    torch.manual_seed(0)
    sizes = {"backbone": "resnet18", "key_dim": 8, "value_dim": 16, "decoder_dim": 8}
    plain = torch_qmra.QMRA(**sizes).eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    folded = torch_qmra.QMRA(**sizes).eval()
    folded.load_state_dict(plain.state_dict())
    torch_inference.fold_batch_norms(folded)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())

    image = torch.randint(0, 256, (27, 44, 3), dtype=torch.uint8)
    with torch.inference_mode():
        query, (left, right, top, bottom) = torch_inference.prepare(image, torch.float32)
        assert query.shape == (1, 3, 32, 48)
        memory_images = torch.rand(2, 3, 3, 32, 48)
        stored = plain.memorize(memory_images, torch.rand(2, 3, 1, 32, 48))
        arrays = [x for stage in stored for x in stage]
        flat = [x.permute(0, 1, 3, 4, 2).flatten(2, 3) for x in arrays]
        labels, boxes, probabilities, entry = torch_inference.see(folded, image, flat)
        outputs, new = plain.predict(query.expand(2, -1, -1, -1), stored)
    margins = outputs["refined"][:, 1] - outputs["refined"][:, 0]
    margins = margins[:, top : 32 - bottom, left : 48 - right]
    scores = torch.cat([torch.zeros_like(margins[:1]), margins])
    torch.testing.assert_close(probabilities, torch.softmax(scores, 0), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(labels.long(), probabilities.argmax(0))
    for found, array in zip(entry, (x for stage in new for x in stage), strict=True):
        torch.testing.assert_close(found.unflatten(1, (2, 3)), array[:, 0].permute(0, 2, 3, 1))
    assert boxes.shape == (2, 4)


def test_tight_boxes_are_the_masks_own():
    torch = pytest.importorskip("torch", reason="the twin is written in PyTorch")
    from benchmarks.torch_inference import tight_boxes

    masks = torch.zeros(2, 6, 9, dtype=torch.bool)
    masks[0, 2:5, 3:4] = True
    masks[0, 3, 7] = True
    assert tight_boxes(masks).tolist() == [[3, 2, 5, 3], [0, 0, 0, 0]]
