"""Swin-T alone, on an image whose sides no stride divides."""

import torch
from parity import recipe
from parity.cases import Case

from d2ext.modeling.backbone import SwinTransformer


def test_features_and_gradients_are_those_of_the_published_swin():
    case = Case("swin_t_backbone")
    options = ("embed_dim", "depths", "num_heads", "window_size", "mlp_ratio", "out_features")
    model = SwinTransformer(
        in_channels=3, drop_path_rate=0.0, **{name: case.config[name] for name in options}
    )
    parameters = case.load(model)
    image = _image(case).requires_grad_()
    features = model(image)
    for name, feature in features.items():
        case.check(name, feature)
    loss = case.weighted_mean(features)
    case.check("loss.total", loss)
    loss.backward()
    case.check_gradients({**parameters, "input.image": image})


def _image(case: Case) -> torch.Tensor:
    facts = case.facts["input"]
    pixels = recipe.image(facts["seeds"][0], facts["height"], facts["width"])
    mean, std = (torch.tensor(facts["normalisation"][key]) for key in ("mean", "std"))
    return ((torch.from_numpy(pixels) - mean) / std).permute(2, 0, 1)[None].contiguous()
