import argparse
import sys
from pathlib import Path

import pytest
import torch

from d2ext.config import load_config
from d2ext.data.formats import load_split
from d2ext.engine.dataless import build_model_without_data

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _tools_on_the_path():
    tools = str(Path(__file__).parents[2] / "tools")
    sys.path.insert(0, tools)
    yield
    sys.path.remove(tools)


def test_the_command_line_names_every_benchmark():
    import benchmark

    (commands,) = (
        action.choices
        for action in benchmark.argument_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    expected = "count data_loading evaluation models ops rcnn training yolo_fastest"
    assert set(expected.split()) <= set(commands)
    args = commands["ops"].parse_args(["nms_rotated", "roi_align", "--repeats", "2"])
    assert (args.names, args.repeats) == (["nms_rotated", "roi_align"], 2)
    assert commands["training"].parse_args([]).names == []


def test_an_unknown_operator_is_an_error_that_lists_the_known_ones(capsys):
    import benchmark

    with pytest.raises(SystemExit):
        benchmark.argument_parser().parse_args(["ops", "nms"])
    assert "nms is none of box_iou_rotated, deform_conv2d" in capsys.readouterr().err


def test_a_new_file_adds_a_subcommand(tmp_path, monkeypatch, capsys):
    import benchmark

    import benchmarks
    from benchmarks import registry

    (tmp_path / "greeting.py").write_text(
        "from benchmarks.registry import register_benchmark\n"
        "register_benchmark('greeting', 'a test', lambda parser: parser.add_argument('name'),\n"
        "                   lambda args: print('hello', args.name))\n"
    )
    monkeypatch.setattr(registry, "_BENCHMARKS", dict(registry._BENCHMARKS))
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    args = benchmark.argument_parser().parse_args(["greeting", "world"])
    args.run(args)
    assert capsys.readouterr().out == "hello world\n"
    monkeypatch.delitem(sys.modules, "benchmarks.greeting")
    with pytest.raises(ValueError, match="already is a benchmark greeting"):
        registry.load_benchmarks()


def test_all_ways_of_a_deformable_convolution_compute_the_same():
    from benchmarks import deform_conv2d

    problem = deform_conv2d.problem((1, 3, 4), CPU, torch.float32)
    own, peer = (problem.ways[name](*problem.inputs) for name in ("d2ext", problem.peer))
    torch.testing.assert_close(own, peer, rtol=1e-4, atol=1e-4)


def test_each_way_is_printed_with_its_ratio_to_the_peer(capsys):
    from benchmarks import deform_conv2d, measure

    problem = deform_conv2d.problem((1, 2, 2), CPU, torch.float32, goals=(5, None))
    measure.report([problem], repeats=1)
    title, *lines = capsys.readouterr().out.strip().splitlines()
    assert "goal: 5x forward]" in title
    assert len(lines) == len(problem.ways)
    assert "1.0x" in next(line for line in lines if "torchvision" in line)


def test_no_forward_pass_is_timed_after_a_backward_pass(monkeypatch):
    from benchmarks import measure

    order = []

    def way(name):
        def run(x):
            order.append(f"{name} with backward" if torch.is_grad_enabled() else name)
            return 2 * x

        return run

    inputs = [torch.ones(3, requires_grad=True)]
    problem = measure.Problem("twice", inputs, {"a": way("a"), "b": way("b")}, peer="b")
    monkeypatch.setattr(measure, "_memory_of", lambda problem: {"a": (1.0, 1.0), "b": (1.0, 1.0)})
    measure.report([problem], repeats=1)
    passes = ["a", "b", "a with backward", "b with backward"]
    assert order == [name for name in passes for _ in range(2)]  # each after a warm-up call


def test_a_way_that_raises_is_reported(capsys):
    from benchmarks.measure import Problem, report

    def broken(x):
        raise RuntimeError("no kernel\nfor this")

    problem = Problem("twice", [torch.ones(3)], {"ours": torch.neg, "other": broken}, peer="ours")
    report([problem], repeats=1)
    assert "does not run: no kernel" in capsys.readouterr().out


def test_other_ways_are_timed_even_if_the_peer_raises(capsys):
    from benchmarks.measure import Problem, report

    def missing(x):
        raise ImportError("not installed")

    report([Problem("twice", [torch.ones(3)], {"ours": torch.neg, "peer": missing}, "peer")], 1)
    ours, peer = capsys.readouterr().out.strip().splitlines()[1:]
    assert "forward" in ours
    assert "does not run: not installed" in peer


def test_rotated_boxes_are_inside_the_image():
    from benchmarks import rotated_boxes

    some = rotated_boxes.boxes(100, 0)
    assert (some[:, :4] > 0).all()
    assert (some[:, 2:4] <= rotated_boxes.SIDES[1]).all()


def test_peak_memory_of_a_function_is_measured():
    from benchmarks.measure import peak_memory

    taken, scratch = peak_memory(lambda: [torch.ones(64, 2**18)], CPU)
    if taken != taken:
        pytest.skip("this system does not tell")
    assert 60 < taken < 80
    assert abs(scratch) < 16


TINY = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: ATSS
  BACKBONE: {NAME: DyHead}
  DYHEAD: {NUM_BLOCKS: 1, SIZE_DIVISIBILITY: 32}
  SWIN: {EMBED_DIM: 16, DEPTHS: [1, 1, 1, 1], NUM_HEADS: [1, 1, 1, 1]}
  FPN: {IN_FEATURES: [stage3, stage4, stage5], OUT_CHANNELS: 32}
  ATSS: {NUM_CONVS: 0}
  ANCHOR_GENERATOR: {SIZES: [[64], [128], [256], [512], [1024]], ASPECT_RATIOS: [[1.0]]}
"""


@pytest.mark.parametrize("training", [False, True])
def test_a_model_and_its_peer_compute_the_same(tmp_path, training):
    from benchmarks import models

    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    problem = models.problem(str(config), (64, 96), CPU, torch.float32)
    results = []
    for way in problem.ways.values():
        torch.manual_seed(0)  # of stochastic depth
        with torch.set_grad_enabled(training):
            results.append(way(*problem.inputs))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    assert results[0].requires_grad == training


def test_deformable_convolutions_count_as_plain_ones(tmp_path, capsys):
    from benchmarks import counts

    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    model = build_model_without_data(load_config(config)).eval()
    found = counts.flops(model, (64, 96))
    cells = [8 * 12, 4 * 6, 2 * 3, 1 * 2, 1]
    views = sum(cells) + 2 * sum(cells[1:])  # each level itself, and four pairs of neighbours
    assert found["deform_conv2d_levels"] == views * 32 * 32 * 9
    counts.report([str(config)], (64, 96))
    assert "tiny " in capsys.readouterr().out


def test_own_convolutions_count_as_those_of_pytorch():
    from benchmarks import counts
    from d2ext.ops import depthwise_conv2d, winograd_conv2d

    class Convolves(torch.nn.Module):
        def __init__(self, own: bool) -> None:
            super().__init__()
            self.own = own

        def forward(self, batch: list[dict]) -> torch.Tensor:
            x, conv = batch[0]["image"].float()[None], torch.nn.functional.conv2d
            full, each = torch.ones(5, 3, 3, 3), torch.ones(3, 1, 3, 3)
            if self.own:
                return winograd_conv2d(x, full, padding=1) + depthwise_conv2d(x, each).sum()
            return conv(x, full, padding=1) + conv(x, each, groups=3).sum()

    own, expected = (counts.flops(Convolves(own), (6, 8)).total() for own in (True, False))
    assert own == expected == 6 * 8 * 5 * 3 * 9 + 4 * 6 * 3 * 9


def test_attention_counts_the_products_of_queries_keys_and_values():
    from benchmarks import counts

    class Attends(torch.nn.Module):
        def forward(self, batch: list[dict]) -> torch.Tensor:
            tokens = batch[0]["image"].float().flatten(1)[None]  # 3 tokens
            return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    found = counts.flops(Attends(), (4, 5))
    assert found.total() == 3 * 3 * (20 + 20)


def test_masks_in_chunks_are_those_of_all_masks_at_once(monkeypatch):
    from benchmarks import mask_inference

    monkeypatch.setattr(mask_inference, "SIZE", (32, 64))
    problems = {p.title.split()[0]: p for p in mask_inference.problems(CPU, torch.float32)}
    assert list(problems) == ["semantic", "instance", "panoptic"]
    results = {
        task: [problem.ways[way](*problem.inputs) for way in ("d2ext", problem.peer)]
        for task, problem in problems.items()
    }
    torch.testing.assert_close(*results["semantic"], rtol=1e-4, atol=1e-4)
    areas = [masks.flatten(1).sum(1).sort().values for masks in results["instance"]]
    torch.testing.assert_close(*areas)


def test_data_loading_is_timed_in_a_child_process(capsys):
    from benchmarks import data_loading

    data_loading.report(None, images=2, rounds=1)
    title, line = capsys.readouterr().out.strip().splitlines()
    assert "640x480" in title
    name, speed, unit = line.split()
    assert (name, unit) == ("d2ext", "images/s")
    assert float(speed) > 0


def test_yolo_fastest_times_both_ways_on_every_photo(tmp_path, capsys, monkeypatch):
    from benchmarks import yolo_fastest

    seen = []
    for name in ("official_way", "own_way"):
        monkeypatch.setattr(yolo_fastest, name, lambda *args, way=name: seen.append)
    yolo_fastest.report("folder", "weights.pth", ["a.jpg", "b.jpg"], "", repeats=3)
    assert seen == [Path(name) for name in ("a.jpg", "a.jpg", "b.jpg", "b.jpg")] * 5
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["official", "d2ext"]
    assert "100.0%" in lines[1]
    assert "[goal: 70%]" in lines[2]


def test_evaluation_metrics_equal_pycocotools(capsys):
    from benchmarks import evaluation

    evaluation.report(images=8, objects=30)
    *_, own, _, numbers = capsys.readouterr().out.strip().splitlines()
    assert own.split()[0] == "d2ext"
    assert float(numbers.rsplit(maxsplit=1)[1]) < 1e-9


def test_a_script_runs_once_per_round_and_provider(tmp_path):
    from benchmarks.providers import in_turns

    script = tmp_path / "script.py"
    script.write_text("import json, sys; print('noise'); print(json.dumps(sys.argv[1:]))\n")
    assert in_turns(str(script), ["a"], official=None, rounds=2) == {"d2ext": [["a"], ["a"]]}


def test_training_data_is_read_back_as_written(tmp_path):
    from benchmarks import training
    from detectron2.data.datasets import load_coco_json

    training.write_data(tmp_path, size=48)
    read = load_coco_json(str(tmp_path / "train.json"), str(tmp_path))
    assert [len(item["annotations"]) for item in read] == [training.OBJECTS] * training.IMAGES
    assert (read[0]["height"], read[0]["width"]) == (48, 64)


def test_made_up_coco_data_are_read_without_an_issue(tmp_path):
    from benchmarks import data

    data.write_data(tmp_path, images=6, objects=200)
    found = load_split(tmp_path / "train.json", images=tmp_path / "images")
    assert (len(found.images), found.num_annotations, len(found.classes)) == (6, 200, 80)
    assert (found.task, found.issues, found.id_issues, found.refusal) == ("masks", [], [], "")
    assert sum(item["iscrowd"] for image in found.images for item in image["annotations"]) == 2
    assert found.coco_file == tmp_path / "train.json"


@pytest.mark.slow
def test_the_way_to_the_first_batch_is_measured(tmp_path, capsys):
    from benchmarks import data

    data.report(None, images=12, objects=60, folder=tmp_path)
    title, *lines = capsys.readouterr().out.strip().splitlines()
    assert title.startswith("from the command to the first batch, 12 images, 60 objects")
    assert [line.split("  ")[1] for line in lines] == ["Detectron2", "d2ext", "d2ext, images known"]
    assert all(line.endswith("1 parses") for line in lines)
