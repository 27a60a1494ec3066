"""The built-in data set appears when asked for."""

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from d2ext.data import dataset_stats
from d2ext.data.shapes import SPLITS, register_shapes
from d2ext.data.shapes_render import CLASSES, VERSION, render
from detectron2.data import DatasetCatalog, MetadataCatalog


def test_registering_the_sets_touches_no_file_and_may_be_repeated(own_cache):
    for name in ("shapes_train", "shapes_val"):
        DatasetCatalog.remove(name)
        register_shapes()
        register_shapes()
        assert name in DatasetCatalog.list()
    assert not own_cache.exists()


def test_the_validation_split_is_rendered_once_and_is_valid_coco(own_cache):
    dicts = DatasetCatalog.get("shapes_val")
    metadata = MetadataCatalog.get("shapes_val")
    assert len(dicts) == SPLITS["val"]
    assert metadata.thing_classes == list(CLASSES)
    assert metadata.json_file.startswith(str(own_cache))

    annotations = COCO(metadata.json_file)
    assert len(annotations.imgs) == len(dicts)
    assert all(annotations.annToMask(item).any() for item in annotations.anns.values())
    with Image.open(dicts[4]["file_name"]) as image:
        np.testing.assert_array_equal(np.asarray(image), render(2, 5)[0])

    written = (own_cache / f"shapes-{VERSION}").stat().st_mtime_ns
    DatasetCatalog.get("shapes_val")
    assert (own_cache / f"shapes-{VERSION}").stat().st_mtime_ns == written
    assert dataset_stats(["shapes_val"]).num_images == len(dicts)
