import numpy as np
import pytest
from PIL import Image

from detectron2.data import transforms as T


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((333, 500), 800, 1333, (800, 1201)),
        ((200, 800), 800, 1333, (333, 1333)),
        ((800, 200), 800, 1333, (1333, 333)),
        ((100, 100), 50, 80, (50, 50)),
    ],
)
def test_the_short_side_is_scaled_unless_the_long_one_exceeds_the_limit(
    size, short, longest, expected
):
    assert T.ResizeShortestEdge.get_output_shape(*size, short, longest) == expected


@pytest.mark.parametrize("length", [13, 39, 40, 42, 95])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("method", ["BILINEAR", "BICUBIC", "NEAREST"])
def test_resized_pixels_are_those_of_pillow_within_one_level(length, channels, method):
    shape = (40, 60) if channels is None else (40, 60, channels)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    resample = Image.Resampling[method]
    data = T.AugInput(image)
    T.ResizeShortestEdge(length, 200, interp=resample)(data)
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    width = int(length * 1.5 + 0.5)
    expected = np.asarray(picture.resize((width, length), resample), dtype=int)
    assert data.image.dtype == np.uint8
    assert abs(data.image.reshape(expected.shape) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_resizing_keeps_channels_and_dtype(shape, dtype):
    resized = T.ResizeTransform(40, 60, 20, 30).apply_image(np.ones(shape, dtype=dtype))
    assert resized.shape == (20, 30, *shape[2:])
    assert resized.dtype == dtype
    assert (resized == 1).all()


def test_resizing_scales_coordinates_and_its_inverse_scales_them_back():
    transform = T.ResizeTransform(40, 60, 20, 120)
    points = np.array([[30.0, 20.0]])
    scaled = transform.apply_coords(points.copy())
    np.testing.assert_allclose(scaled, [[60.0, 10.0]])
    np.testing.assert_allclose(transform.inverse().apply_coords(scaled), points)


def test_a_segmentation_is_resized_without_new_labels():
    labels = np.kron(np.array([[0, 7], [3, 255]], dtype=np.uint8), np.ones((9, 9), dtype=np.uint8))
    resized = T.ResizeTransform(18, 18, 7, 13).apply_segmentation(labels)
    assert set(np.unique(resized)) == {0, 3, 7, 255}


def test_a_flip_mirrors_image_boxes_and_segmentation(image):
    labels = image[:, :, 0].copy()
    data = T.AugInput(image, boxes=np.array([[10.0, 5.0, 20.0, 30.0]]), sem_seg=labels)
    transform = T.RandomFlip(prob=1.0)(data)
    assert isinstance(transform, T.HFlipTransform)
    np.testing.assert_array_equal(data.image, image[:, ::-1])
    np.testing.assert_array_equal(data.sem_seg, labels[:, ::-1])
    np.testing.assert_allclose(data.boxes, [[40.0, 5.0, 50.0, 30.0]])


def test_a_flip_goes_in_one_direction():
    with pytest.raises(ValueError, match="Flip"):
        T.RandomFlip(horizontal=True, vertical=True)


def test_a_probability_of_zero_does_nothing(image):
    data = T.AugInput(image)
    assert isinstance(T.RandomFlip(prob=0.0)(data), T.NoOpTransform)
    assert isinstance(T.RandomApply(T.RandomFlip(prob=1.0), prob=0.0)(data), T.NoOpTransform)
    assert data.image is image


@pytest.mark.parametrize(
    ("kind", "size", "lowest", "highest"),
    [
        ("absolute", (30, 100), (30, 60), (30, 60)),
        ("absolute_range", (10, 50), (10, 10), (40, 50)),
        ("relative", (0.5, 0.25), (20, 15), (20, 15)),
        ("relative_range", (0.5, 0.25), (20, 15), (40, 60)),
    ],
)
def test_the_crop_type_defines_the_crop_size(image, kind, size, lowest, highest):
    for _ in range(20):
        cropped = T.RandomCrop(kind, size).get_transform(image).apply_image(image)
        assert (np.array(cropped.shape[:2]) >= lowest).all()
        assert (np.array(cropped.shape[:2]) <= highest).all()


def test_a_fixed_size_crop_pads_at_the_right_and_the_bottom(image):
    data = T.AugInput(image, sem_seg=np.zeros((40, 60), dtype=np.uint8))
    T.FixedSizeCrop((50, 70), pad_value=7, seg_pad_value=9)(data)
    assert data.image.shape == (50, 70, 3)
    np.testing.assert_array_equal(data.image[:40, :60], image)
    assert (data.image[40:] == 7).all()
    assert (data.sem_seg[:, 60:] == 9).all()


def test_a_scaled_image_fits_into_the_target(image):
    resized = T.ResizeScale(0.5, 0.5, 100, 100).get_transform(image).apply_image(image)
    assert resized.shape[:2] == (33, 50)


def test_a_quarter_turn_is_counter_clockwise():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    transform = T.RotationTransform(2, 3, 90, expand=True)
    np.testing.assert_array_equal(transform.apply_image(image), np.rot90(image))
    np.testing.assert_allclose(transform.apply_coords([[3.0, 0.0]]), [[0.0, 0.0]], atol=1e-9)


def test_a_rotation_and_its_inverse_cancel():
    transform = T.RotationTransform(40, 60, 33, expand=True)
    points = np.array([[10.0, 20.0], [50.0, 5.0]])
    back = transform.inverse().apply_coords(transform.apply_coords(points.copy()))
    np.testing.assert_allclose(back, points, atol=1.0)  # the size of the canvas is rounded


def test_an_extent_maps_its_corners_to_those_of_the_output(image):
    transform = T.ExtentTransform((10, 5, 30, 25), (40, 40))
    np.testing.assert_allclose(
        transform.apply_coords(np.array([[10.0, 5.0], [30.0, 25.0]])), [[0, 0], [40, 40]], atol=1e-5
    )
    assert transform.apply_image(image).shape == (40, 40, 3)


def test_pixels_outside_of_an_extent_are_black(image):
    outside = T.ExtentTransform((-20, -20, -10, -10), (5, 5)).apply_image(image)
    assert (outside == 0).all()


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (T.RandomBrightness(0.5, 0.5), 50),
        (T.RandomContrast(0.0, 0.0), 100),
        (T.RandomSaturation(0.0, 0.0), 100),
    ],
)
def test_colour_augmentations_of_a_grey_image_by_hand(augmentation, expected):
    image = np.full((4, 4, 3), 100, dtype=np.uint8)
    changed = augmentation.get_transform(image).apply_image(image)
    np.testing.assert_allclose(changed, expected, atol=1)


def test_a_colour_transform_does_not_change_coordinates(image):
    transform = T.PILColorTransform(lambda picture: picture.point(lambda value: 255 - value))
    np.testing.assert_array_equal(transform.apply_image(image), 255 - image)
    points = np.array([[1.0, 2.0]])
    assert transform.apply_coords(points) is points


def test_a_min_iou_crop_overlaps_an_object_by_the_required_iou():
    np.random.seed(0)
    image, box = np.zeros((40, 60, 3), dtype=np.uint8), np.array([[10.0, 5.0, 50.0, 35.0]])
    for _ in range(10):
        crop = T.MinIoURandomCrop(min_ious=(0.7,)).get_transform(image, box)
        moved = crop.apply_box(box)[0]
        assert moved[0] < moved[2]
        assert moved[1] < moved[3]


def test_no_category_fills_a_constrained_crop():
    np.random.seed(0)
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[:, 30:] = 1
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    augmentation = T.RandomCrop_CategoryAreaConstraint("absolute", (20, 40), 0.8)
    for _ in range(5):
        cropped = augmentation.get_transform(image, labels).apply_segmentation(labels)
        assert np.bincount(cropped.ravel()).max() < 0.8 * cropped.size


@pytest.mark.parametrize("angle", [30.0, -70.0])
def test_rotated_boxes_are_flipped_and_resized(angle):
    box = np.array([[20.0, 10.0, 8.0, 4.0, angle]])
    flipped = T.HFlipTransform(60).apply_rotated_box(box.copy())
    np.testing.assert_allclose(flipped, [[40.0, 10.0, 8.0, 4.0, -angle]])
    doubled = T.ResizeTransform(40, 60, 80, 120).apply_rotated_box(box.copy())
    np.testing.assert_allclose(doubled, [[40.0, 20.0, 16.0, 8.0, angle]])


class CropToFirstBox(T.Augmentation):
    def __init__(self, margin=0):
        self._init(locals())

    def get_transform(self, image, boxes):
        x0, y0, x1, y1 = boxes[0].astype(int)
        return T.CropTransform(x0, y0, x1 - x0, y1 - y0)


def test_an_augmentation_gets_the_inputs_named_by_its_parameters(image):
    data = T.AugInput(image, boxes=np.array([[10.0, 5.0, 20.0, 30.0]]))
    CropToFirstBox()(data)
    assert data.image.shape == (25, 10, 3)
    np.testing.assert_allclose(data.boxes, [[0.0, 0.0, 10.0, 25.0]])


def test_the_repr_of_an_augmentation_shows_non_default_arguments():
    assert str(CropToFirstBox(2)) == "CropToFirstBox(margin=2)"
    assert str(CropToFirstBox()) == "CropToFirstBox()"


def test_an_input_that_is_missing_is_named(image):
    class NeedsDepth(T.Augmentation):
        def get_transform(self, image, depth):
            return T.NoOpTransform()

    with pytest.raises(AttributeError, match="depth"):
        NeedsDepth()(T.AugInput(image))


def test_each_augmentation_of_a_list_sees_the_result_of_the_previous_ones(image):
    steps = [T.CropTransform(0, 0, 20, 20), T.Resize((10, 10)), T.RandomFlip(prob=1.0)]
    found, transforms = T.apply_augmentations(steps, image)
    assert found.shape == (10, 10, 3)
    np.testing.assert_allclose(transforms.apply_coords(np.array([[20.0, 10.0]])), [[0.0, 5.0]])


@pytest.mark.parametrize(
    "augmentation",
    [
        T.ResizeShortestEdge([100, 100], 300),
        T.ResizeScale(1.0, 1.0, 300, 300),
        T.RandomCrop("relative", (0.1, 0.1)),
    ],
)
def test_a_thin_image_keeps_at_least_one_row(augmentation):
    image = np.zeros((2, 1400, 3), np.uint8)
    assert augmentation.get_transform(image).apply_image(image).shape[0] >= 1
