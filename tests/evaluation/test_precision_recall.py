"""AP by class beside pycocotools' own."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from d2ext.evaluation.precision_recall import measure


@pytest.fixture
def made_up(tmp_path):
    """A COCO file of two classes, one of which has no object, and detections near its boxes."""
    rng = np.random.default_rng(1)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 300, "height": 300} for i in range(12)]
    annotations, results = [], []
    for number in range(60):
        image, category = int(rng.integers(12)), int(rng.choice([2, 5]))
        box = [*rng.uniform(0, 150, 2), *rng.uniform(8, 140, 2)]
        item = {"id": number + 1, "image_id": image, "category_id": category, "bbox": box}
        annotations.append({**item, "area": box[2] * box[3], "iscrowd": 0})
        moved = (np.array(box) + rng.normal(0, 6, 4)).clip(1).tolist()
        results.append({**item, "bbox": moved, "score": float(rng.uniform())})
        del results[-1]["id"]
    categories = [{"id": i, "name": n} for i, n in ((2, "cat"), (5, "dog"), (9, "unicorn"))]
    path = tmp_path / "truth.json"
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))
    return str(path), results


def test_numbers_equal_those_of_pycocotools(made_up):
    path, results = made_up
    found = measure(path, results, "bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        reference = COCOeval(truth, truth.loadRes([dict(r) for r in results]), "bbox")
        reference.evaluate(), reference.accumulate()
    expected = reference.eval["precision"][:, :, :, :, -1]
    np.testing.assert_allclose(np.nan_to_num(found.precision, nan=-1.0), expected, atol=1e-12)
    assert list(found.category_ids) == [2, 5, 9]
    table = found.table()
    np.testing.assert_allclose(table[0, 0], 100 * expected[:, :, 0, 0].mean(), atol=1e-9)
    np.testing.assert_allclose(table[1, 1], 100 * expected[0, :, 1, 0].mean(), atol=1e-9)
    assert np.isnan(table[2]).all()
    assert found.curve(0).shape == found.recalls.shape
