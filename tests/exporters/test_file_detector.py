"""Exported files as detectors, in 8 bits and by OpenVINO, too."""

import numpy as np
import onnx
import pytest
import torch

from d2ext.errors import ConfigError, WeightsError
from d2ext.exporters.file_detector import FileDetector
from d2ext.exporters.fp16 import convert_to_fp16
from d2ext.exporters.int8 import quantize
from tests.helpers.onnx_files import write_one_box_file


def test_boxes_are_in_pixels_of_the_image_and_clipped_to_it(tmp_path):
    blue = np.zeros((128, 160, 3), np.uint8)
    blue[..., 2] = 255
    found = FileDetector.open(write_one_box_file(tmp_path / "m.onnx"))(blue)
    # 128 x 160 becomes 64 x 80, padded to 64 x 96: blue is 255 in five sixths, and 10 beside.
    assert found.pred_boxes.tensor.tolist() == [[32, 32, 96, 128]]
    torch.testing.assert_close(found.scores, torch.tensor([(5 + 10 / 255) / 6]))
    assert found.pred_classes.tolist() == [1]


def test_small_images_are_padded_on_the_right_and_bottom(tmp_path):
    detector = FileDetector.open(write_one_box_file(tmp_path / "m.onnx", shortest=16))
    images, size = detector.prepare(np.full((16, 20, 3), 7, np.uint8))
    assert (images.shape, size) == ((1, 3, 32, 32), (16, 20))
    assert (images[0, :, :16, :20] == 7).all()
    assert images[0, :, 16:, 20:].reshape(3, -1).std() > 0
    assert images[0, :, 31, 31].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("kind", "size"), [("stretch", (64, 96)), ("letterbox", (64, 64))])
def test_a_fixed_size_is_stretched_to_or_fitted_in(kind, size, tmp_path):
    detector = FileDetector.open(
        write_one_box_file(tmp_path / "m.onnx", resize=kind, size=[64, 96], frame=[64, 96])
    )
    images, resized = detector.prepare(np.zeros((128, 128, 3), np.uint8))
    assert (images.shape, resized) == ((1, 3, 64, 96), size)


def test_a_letterbox_without_a_fixed_size_pads_to_the_stride_alone(tmp_path):
    detector = FileDetector.open(
        write_one_box_file(tmp_path / "m.onnx", resize="letterbox", frame=[64, 96])
    )
    images, resized = detector.prepare(np.zeros((50, 150, 3), np.uint8))
    assert (images.shape, resized) == ((1, 3, 32, 96), (32, 96))
    images, resized = detector.prepare(np.zeros((128, 100, 3), np.uint8))
    assert (images.shape, resized) == ((1, 3, 64, 64), (64, 50))


def test_a_file_without_nms_or_of_others_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="with NMS in it"):
        FileDetector.open(write_one_box_file(tmp_path / "m.onnx", nms="none"))
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"broken\.onnx: onnxruntime .* cannot run it"):
        FileDetector.open(tmp_path / "broken.onnx")


def test_int8_gives_nearly_the_same_and_keeps_the_metadata(tmp_path):
    path = write_one_box_file(tmp_path / "m.onnx")
    full = FileDetector.open(path)
    images = [np.full((64, 64, 3), grey, np.uint8) for grey in (0, 80, 255)]
    quantize(path, tmp_path / "q.onnx", (full.prepare(image)[0] for image in images))
    small = FileDetector.open(tmp_path / "q.onnx")
    assert small.metadata == full.metadata
    kinds = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    exact, rounded = full(images[1]).scores, small(images[1]).scores
    torch.testing.assert_close(exact, rounded, atol=0.01, rtol=0)


def test_fp16_computes_convolutions_in_half_and_boxes_in_full(tmp_path):
    path = write_one_box_file(tmp_path / "m.onnx")
    convert_to_fp16(path, tmp_path / "h.onnx")
    full, half = FileDetector.open(path), FileDetector.open(tmp_path / "h.onnx")
    assert half.metadata == full.metadata
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    torch.testing.assert_close(half(image).scores, full(image).scores, atol=2e-3, rtol=0)
    assert torch.equal(half(image).pred_boxes.tensor, full(image).pred_boxes.tensor)
    kinds = {each.name: each.data_type for each in onnx.load(tmp_path / "h.onnx").graph.initializer}
    assert kinds["weight"] == onnx.TensorProto.FLOAT16
    assert kinds["boxes"] == onnx.TensorProto.FLOAT


def test_a_file_of_one_channel_is_given_one(tmp_path):
    detector = FileDetector.open(
        write_one_box_file(tmp_path / "a.onnx", channel_order="L", padding=[10.0])
    )
    images, _ = detector.prepare(np.full((32, 32, 3), 90, np.uint8))
    assert images.shape == (1, 1, 64, 64)
    assert np.unique(images).tolist() == [90]


def test_openvino_gives_the_same_and_keeps_the_metadata(tmp_path):
    pytest.importorskip("openvino")
    from d2ext.exporters.openvino_file import save_openvino

    path = write_one_box_file(tmp_path / "m.onnx")
    save_openvino(path, tmp_path / "m.xml")
    ours, other = FileDetector.open(path), FileDetector.open(tmp_path / "m.xml", threads=1)
    assert other.metadata == ours.metadata
    for size in ((128, 160, 3), (96, 64, 3)):
        image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        expected, found = ours(image), other(image)
        assert len(found) == len(expected) == 1
        torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize("suffix", [".xml", ".pt", ".pt2", ".onnx"])
def test_a_file_that_is_broken_or_missing_is_one_message(suffix, tmp_path):
    if suffix == ".xml":
        pytest.importorskip("openvino")
    with pytest.raises(WeightsError, match="no such file"):
        FileDetector.open(tmp_path / f"none{suffix}")
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=f"broken{suffix}: .* cannot (read|run) it") as caught:
        FileDetector.open(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.tflite: not the name of an exported file"):
        FileDetector.open(tmp_path / "model.tflite")
