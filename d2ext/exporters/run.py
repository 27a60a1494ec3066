"""Export a model: write the file, compare it with the model, quantise it, measure its AP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from d2ext.data.augmentation.resize import STRETCH
from d2ext.data.image_reading import read_image
from d2ext.errors import ConfigError
from d2ext.exporters.accuracy import average_precision
from d2ext.exporters.check import Detect, Difference, ExportError
from d2ext.exporters.exported_module import ExportedModule, build_exported_module
from d2ext.exporters.exporter import Exporter, MaskExporter, exporter_for
from d2ext.exporters.file_check import FileCheck
from d2ext.exporters.file_detector import FileDetector
from d2ext.exporters.formats import ONNX_BASED, SUFFIXES, need_packages
from d2ext.exporters.metadata import describe
from d2ext.exporters.sample_inputs import sample_batches, sample_images
from d2ext.files import check_output_file
from detectron2.config import CfgNode

CALIBRATION = 100  # images, spread evenly over those given


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how the file is checked.

    Args:
        format: a key of `SUFFIXES`.
        output: file to write.
        decode: "inside" if the file contains the decoding of boxes, else "none".
        nms: "inside" if the file contains NMS, else "none".
        paste: "inside" if the file pastes masks into the image, else "none".
        size: height and width of the input in pixels; None: any, or INPUT.SIZE where images are
            stretched to that.
        images: files on which the file is compared with the model; empty: generated images.
        calibration: files that the ranges of 8-bit weights and activations are taken from; empty:
            the file is not quantised.
        fp16: the network of an ONNX file computes in 16 bits.
        dataset: registered name of the data set on which AP is measured; "": it is not measured.
    """

    format: str
    output: Path
    decode: str = "inside"
    nms: str = "inside"
    paste: str = "none"
    size: tuple[int, int] | None = None
    images: Sequence[Path] = ()
    calibration: Sequence[Path] = ()
    dataset: str = ""
    fp16: bool = False


def check_options(options: ExportOptions) -> None:
    """Check what can be checked before a model is built.

    Raises:
        ConfigError: the suffix of the output is not the format's.
        ExportError: packages that the format needs are not installed.
        OutputError: the output cannot be written.
    """
    need_packages(options.format)
    suffix = SUFFIXES[options.format]
    if options.output.suffix.lower() != suffix or options.output.is_dir():
        raise ConfigError(
            f"--output {options.output}: a file of --format {options.format} is named *{suffix}."
        )
    check_output_file(options.output, "--output")


def export_model(
    options: ExportOptions,
    cfg: CfgNode,
    model: nn.Module,
    names: Sequence[str],
    path: Path,
    detect: Detect,
    pixel_names: Sequence[str] = (),
) -> Iterator[str]:
    """Write a model to `path` and compare the file with the model.

    Args:
        cfg: of the model, without `auto` values.
        model: in evaluation mode, on the CPU.
        names: of the classes.
        detect: the model as `tools/demo.py` calls it, from pixels of an image to its instances.
        pixel_names: of the classes of pixels, where they are others than those of objects.
    Yields:
        A line per batch and per image compared.
    Raises:
        ExportError: the file computes something else than the model.
        ConfigError: no exporter is registered for the model, or the size does not suit it.
    """
    exporter = exporter_for(model)
    options = _adapted(options, exporter, model)
    module = build_exported_module(
        exporter,
        options.nms,
        options.decode,
        for_onnx=options.format in ONNX_BASED,
        paste=options.paste,
    ).eval()
    size = _input_size(options, cfg, module)
    batches = sample_batches(exporter, list(options.images), cfg.INPUT.FORMAT, size)
    module(batches[-1])  # sets `output_names`
    classes = pixel_names if pixel_names and isinstance(exporter, MaskExporter) else names
    metadata = describe(
        cfg, exporter, classes, size, options.nms, options.decode, module.output_names
    )
    images = sample_images(options.images)
    check = FileCheck(module, metadata, options.format, options.fp16, detect, batches, images)
    yield from _write_checked(check, path, options.output)
    if check.pads_further:
        yield (
            "--size: images are padded to that, further than prediction pads them, and detections "
            "may differ a little; without --size they are the same"
        )


def _write_checked(check: FileCheck, path: Path, output: Path) -> Iterator[str]:
    """Write a file, yield a line per comparison, and raise an ExportError if it differs.

    Where the model detects nothing at its score threshold, no box would be compared.
    """
    differences = check.write(path)
    yield from (difference.text for difference in differences)
    _refuse_faults(output, differences)
    if any(difference.count for difference in differences):
        return
    differences = list(check.write_below_threshold())
    yield from (difference.text for difference in differences)
    _refuse_faults(output, differences)
    if not any(difference.count for difference in differences):
        yield (
            "warning: the model detects nothing in these images, so that no box of the file was "
            "compared with its boxes; --images names others"
        )


def _adapted(options: ExportOptions, exporter: Exporter, model: nn.Module) -> ExportOptions:
    """Return the options that hold for the model: masks of the image have no boxes to decode."""
    if not isinstance(exporter, MaskExporter):
        return options
    if options.dataset or options.calibration:
        raise ConfigError(
            f"{type(model).__name__}: AP and 8-bit ranges are for files with boxes; leave out "
            "--val and --calibrate."
        )
    return replace(options, nms="none", decode="none")


def _refuse_faults(output: Path, differences: Sequence[Difference]) -> None:
    faults = [f"{each.text}: {each.fault}" for each in differences if each.fault]
    if faults:
        raise ExportError(
            f"{output}: not written; it does not give what the model gives: {'; '.join(faults)}"
        )


def quantize_and_evaluate(options: ExportOptions, detect: Detect, path: Path) -> Iterator[str]:
    """Quantise an ONNX file in place and measure the AP, as far as the options ask for it.

    Args:
        detect: maps an (H, W, 3) RGB uint8 image to the model's instances, for its AP.
        path: the file that `export_model` wrote.
    Yields:
        A line per step.
    """
    if not (options.calibration or options.dataset):
        return
    exported = FileDetector.open(path)
    name = "OpenVINO" if options.format == "openvino" else "ONNX"
    detectors: dict[str, Detect] = {"PyTorch": detect, name: exported}
    if options.calibration:
        from d2ext.exporters.int8 import quantize

        files = options.calibration[:: -(-len(options.calibration) // CALIBRATION)]
        images = (read_image(str(file), format="RGB") for file in files)
        quantize(path, path, (exported.prepare(image)[0] for image in images))
        detectors["INT8"] = FileDetector.open(path)
        yield f"8 bits: ranges from {len(files)} images"
    if options.dataset:
        for name, detector in detectors.items():
            found = average_precision(detector, options.dataset)
            yield f"{name}: " + "; ".join(
                f"{prefix}AP {found[task]['AP']:.2f}, AP50 {found[task]['AP50']:.2f}"
                for task, prefix in (("bbox", ""), ("segm", "masks: "))
                if task in found
            )


def _input_size(
    options: ExportOptions, cfg: CfgNode, module: ExportedModule
) -> tuple[int, int] | None:
    """Return height and width of the input; None if they are dynamic."""
    size = options.size
    if size is None:
        if cfg.INPUT.get("RESIZE") != STRETCH:
            return None
        width, height = cfg.INPUT.SIZE
        size = height, width
    multiple = module.exporter.multiple
    if any(side < 1 or side % multiple for side in size):
        raise ConfigError(
            f"--size {size[0]} {size[1]}: both are to be positive multiples of {multiple} pixels."
        )
    return size
