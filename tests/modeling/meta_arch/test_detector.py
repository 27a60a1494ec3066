"""The base class carries predictors that are not dense: queries with a padding mask, and masks."""

import pytest
import torch
from torch import Tensor, nn

from d2ext.modeling.meta_arch import Detector, padding_mask
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import Boxes, ImageList, Instances


class Patches(Backbone):
    """The mean colour of every 16 x 16 patch, projected."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 8, 16, stride=16)
        self._out_features = ["patches"]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"patches": self.project(images)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"patches": ShapeSpec(channels=8, stride=16)}

    @property
    def size_divisibility(self) -> int:
        return 16


class QueryDetector(Detector):
    """Two queries that attend to the patches of an image and predict a relative box each."""

    def __init__(self) -> None:
        mean = std = [2.0, 2.0, 2.0]
        super().__init__(backbone=Patches(), pixel_mean=mean, pixel_std=std, input_format="RGB")
        self.queries, self.box = nn.Embedding(2, 8), nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, 1, batch_first=True)

    def boxes(self, images: ImageList) -> Tensor:
        tokens = self.backbone(images.tensor)["patches"].flatten(2).transpose(1, 2)
        mask = padding_mask(images)[:, ::16, ::16].flatten(1)
        queries = self.queries.weight.expand(len(images), -1, -1)
        return self.box(self.attention(queries, tokens, tokens, mask)[0]).sigmoid()

    def losses(self, images: ImageList, targets: list[Instances]) -> dict[str, Tensor]:
        wanted = [image.gt_boxes.tensor.mean(0) / max(image.image_size) for image in targets]
        return {"loss_box": (self.boxes(images).mean(1) - torch.stack(wanted)).abs().mean()}

    def detect(self, images: ImageList) -> list[Instances]:
        found = []
        for relative, (height, width) in zip(self.boxes(images), images.image_sizes, strict=True):
            center, size = (relative * torch.tensor([width, height] * 2)).split(2, dim=1)
            boxes = torch.cat((center - size / 2, center + size / 2), dim=1)
            scores, classes = torch.ones(2), torch.zeros(2, dtype=torch.int64)
            own = Instances((height, width), pred_boxes=Boxes(boxes))
            own.scores, own.pred_classes = scores, classes
            found.append(own)
        return found


class Thresholder(Detector):
    """A predictor of semantic masks: pixels above the mean are class 1."""

    def losses(self, images: ImageList, targets: list[Tensor]) -> dict[str, Tensor]:
        return {"loss_pixels": torch.stack([target.float().mean() for target in targets]).sum()}

    def detect(self, images: ImageList) -> list[Tensor]:
        return [image[:, :h, :w] for image, (h, w) in zip(images, images.image_sizes, strict=True)]

    def targets(self, batch: list[dict]) -> list[Tensor]:
        return [item["sem_seg"].to(self.device) for item in batch]

    def postprocess(self, found: Tensor, height: int, width: int) -> dict[str, Tensor]:
        resized = nn.functional.interpolate(found[None], (height, width))[0]
        return {"sem_seg": (resized.mean(0) > 0).long()}


def item(height: int, width: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    truth = Instances((height, width), gt_boxes=Boxes(torch.tensor([[2.0, 4.0, 20.0, 16.0]])))
    truth.gt_classes = torch.tensor([0])
    return {"image": image, "instances": truth}


@pytest.fixture
def model() -> QueryDetector:
    torch.manual_seed(0)
    return QueryDetector().eval()


@torch.no_grad()
def test_padding_does_not_change_what_queries_see(model):
    small, large = item(32, 48), item(64, 96, seed=1)
    alone = model([small])[0]["instances"].pred_boxes.tensor
    beside = model([small, large])[0]["instances"].pred_boxes.tensor
    torch.testing.assert_close(beside, alone)


def test_the_padding_mask_is_true_where_no_image_is(model):
    images = model.preprocess([item(32, 40), item(48, 30)])
    mask = padding_mask(images)
    assert mask.shape == (2, 48, 48)
    assert [int((~own).sum()) for own in mask] == [32 * 40, 48 * 30]
    assert not mask[0, :32, :40].any()
    assert not mask[1, :48, :30].any()


def test_images_are_normalised_before_they_are_padded(model):
    images = model.preprocess([{"image": torch.full((3, 20, 30), 8, dtype=torch.uint8)}])
    assert images.tensor.shape == (1, 3, 32, 32)
    assert images.tensor[0, :, :20, :30].unique().tolist() == [3.0]
    assert images.tensor[0, :, 20:].unique().tolist() == [0.0]


@torch.no_grad()
def test_boxes_are_in_pixels_of_the_output(model):
    plain = model([item(32, 48)])[0]["instances"]
    double = model([{**item(32, 48), "height": 96, "width": 96}])[0]["instances"]
    assert (plain.image_size, double.image_size) == ((32, 48), (96, 96))
    scale = torch.tensor([2.0, 3, 2, 3])
    torch.testing.assert_close(double.pred_boxes.tensor, plain.pred_boxes.tensor * scale)


def test_training_returns_losses_with_gradients(model):
    losses = model.train()([item(32, 48), item(64, 96, seed=1)])
    losses["loss_box"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_predictor_of_pixels_gives_its_own_targets_and_outputs():
    model = Thresholder(
        backbone=Patches(), pixel_mean=[100.0] * 3, pixel_std=[1.0] * 3, input_format="RGB"
    )
    image = torch.zeros(3, 20, 32, dtype=torch.uint8)
    image[:, :, 16:] = 200
    batch = [{"image": image, "sem_seg": torch.ones(20, 32), "height": 10, "width": 8}]
    assert model.train()(batch)["loss_pixels"] == 1
    (found,) = model.eval()(batch)
    assert found["sem_seg"].tolist() == [[0] * 4 + [1] * 4] * 10


def test_instances_are_learned_from_boxes_unless_a_detector_says_otherwise():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "QueryDetector"
    expected = {"boxes": "MODEL.META_ARCHITECTURE QueryDetector"}
    assert QueryDetector.required_annotations(cfg) == expected
    assert QueryDetector.dataset_mapper == "default"
