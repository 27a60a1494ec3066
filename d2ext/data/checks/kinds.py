"""The kinds of faults: a code, how bad it is, what it is and what helps.

An error makes training fail or be wrong, a warning makes it worse, a note is worth knowing.
"""

from typing import NamedTuple

SEVERITIES = ("error", "warning", "note")


class Kind(NamedTuple):
    """A kind of fault.

    Args:
        code: its name in reports, fixed for good.
        severity: one of `SEVERITIES`.
        summary: what is wrong.
        remedy: what helps.
        fix: what a repaired copy does about it, "" for nothing.
    """

    code: str
    severity: str
    summary: str
    remedy: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.summary}; {self.remedy}."


_DROP_IMAGE = "leaves the image out"
_DROP_OBJECT = "leaves the object out"

_IMAGES = (
    Kind(
        "image-missing",
        "error",
        "images are listed that do not exist",
        "add them, or name the folder that their names start from",
        _DROP_IMAGE,
    ),
    Kind(
        "image-empty",
        "error",
        "image files have no content",
        "copy or download them again, or remove them",
        _DROP_IMAGE,
    ),
    Kind(
        "image-unreadable",
        "error",
        "files cannot be read as images",
        "copy or download them again, or remove them",
        _DROP_IMAGE,
    ),
    Kind(
        "image-truncated",
        "error",
        "image files end before their pixels do, or are damaged",
        "copy or download them again, or remove them",
        _DROP_IMAGE,
    ),
    Kind(
        "image-huge",
        "error",
        "images have more pixels than Pillow agrees to open",
        "cut them into tiles",
        _DROP_IMAGE,
    ),
    Kind(
        "image-size",
        "error",
        "images have another size than their annotations say",
        "put the size right if the boxes fit the image, else annotate the image that is there",
        _DROP_IMAGE,
    ),
    Kind(
        "image-turned",
        "error",
        "images were annotated as stored, but their EXIF orientation turns them on reading",
        "remove the orientation from the files, or turn the boxes with it",
        "removes the orientation from the copied file, its pixels stay",
    ),
    Kind(
        "image-exif",
        "warning",
        "images are turned by their EXIF orientation and nothing says how they were annotated",
        "look at one with its boxes; if they are off, remove the orientation from the files",
    ),
    Kind(
        "image-depth",
        "warning",
        "images have more than 8 bits a channel, which reading cuts off at 255",
        "scale them to 8 bits",
        "writes a copy scaled to 8 bits",
    ),
    Kind(
        "image-blank",
        "warning",
        "images have one colour everywhere",
        "remove them, or look why nothing was recorded",
    ),
    Kind(
        "image-frames",
        "note",
        "files hold several pictures, of which the first is read",
        "save the frames you need as files of their own",
    ),
    Kind(
        "image-suffix",
        "note",
        "images are of another format than their names say",
        "rename them; they are read by content",
    ),
    Kind(
        "image-size-odd",
        "note",
        "images differ by a pixel or two from a size that many others have",
        "look whether they were cut or scaled by mistake",
    ),
    Kind(
        "image-unused",
        "note",
        "image files lie beside those that are listed, but are not listed",
        "list them if they should be learned from, also when nothing is on them",
    ),
)

_DUPLICATES = (
    Kind(
        "leak-same",
        "error",
        "the same image is in training and evaluation data, which makes results look too good",
        "remove it from one of them",
        "leaves the image out of the later data set",
    ),
    Kind(
        "leak-near",
        "warning",
        "nearly the same image is in training and evaluation data",
        "keep frames of one scene in one of them",
    ),
    Kind(
        "duplicate-image",
        "warning",
        "the same image stands more than once in a data set",
        "keep one, with the annotations of all",
        "leaves the later image out",
    ),
    Kind(
        "duplicate-near",
        "note",
        "nearly the same image stands more than once in a data set",
        "keep one if they teach nothing new",
    ),
    Kind(
        "image-listed-twice",
        "warning",
        "the same file is listed more than once",
        "merge the entries",
        "leaves later entries out",
    ),
)

_RECORDS = (
    Kind(
        "file-unreadable",
        "error",
        "annotation files cannot be read",
        "mend or export them again",
        "leaves their objects out",
    ),
    Kind(
        "file-missing",
        "error",
        "annotation files are listed that do not exist",
        "add them, or remove them from the list",
    ),
    Kind(
        "split-missing",
        "note",
        "a test split is named that cannot be read",
        "add it, or remove its name",
        "leaves it out",
    ),
    Kind(
        "record-broken",
        "error",
        "annotations are incomplete or not of the expected form",
        "mend or remove them",
        _DROP_OBJECT,
    ),
    Kind(
        "class-unknown",
        "error",
        "objects have a class that is not listed",
        "add the class to the list, or correct the objects",
        _DROP_OBJECT,
    ),
    Kind(
        "object-orphan",
        "error",
        "objects belong to an image that is not listed",
        "list the image, or remove them",
        _DROP_OBJECT,
    ),
    Kind(
        "annotation-orphan",
        "warning",
        "annotation files have no image",
        "add the image, or remove the file",
        "leaves the file out",
    ),
    Kind(
        "image-id-twice",
        "error",
        "ids of images stand more than once, so that objects get the wrong image",
        "give each image its own id and its objects that id",
        "numbers the images anew; the objects stay with the last",
    ),
    Kind(
        "object-id-twice",
        "error",
        "ids of annotations stand more than once, so that evaluation loses objects",
        "number the annotations anew",
        "numbers all annotations anew",
    ),
    Kind(
        "object-id-missing",
        "note",
        "annotations have no id, or one that evaluation cannot use",
        "number them from 1; it is done on reading",
        "numbers all annotations anew",
    ),
)

_BOXES = (
    Kind(
        "box-nonfinite",
        "error",
        "boxes have a coordinate that is no finite number",
        "correct or remove them",
        _DROP_OBJECT,
    ),
    Kind(
        "box-empty",
        "error",
        "boxes have no area",
        "draw them again, or remove them",
        _DROP_OBJECT,
    ),
    Kind(
        "box-outside",
        "error",
        "boxes lie outside of their images",
        "check the size and the image they belong to, or remove them",
        _DROP_OBJECT,
    ),
    Kind(
        "box-beyond",
        "warning",
        "boxes reach beyond the edges of their images",
        "clip them",
        "clips the box",
    ),
    Kind(
        "box-normalised",
        "error",
        "boxes are all between 0 and 1 in images of many pixels: shares instead of pixels",
        "multiply them by the width and height of the image",
        "multiplies them",
    ),
    Kind(
        "box-corners",
        "error",
        "boxes reach beyond their images as x, y, width, height, but fit as two corners",
        "write width and height in place of the second corner",
        "takes them for two corners",
    ),
    Kind(
        "box-tiny",
        "warning",
        "boxes are under two pixels wide or high",
        "draw them again, or remove them",
    ),
    Kind(
        "box-sliver",
        "note",
        "boxes at the edge of their images show a strip of under five pixels",
        "remove them if nobody could tell what it is",
    ),
    Kind(
        "box-whole-image",
        "warning",
        "boxes cover their whole images",
        "draw them around the object, or remove them if they stand for the image",
    ),
    Kind(
        "box-duplicate",
        "warning",
        "objects stand twice: same class, same box",
        "remove one",
        "leaves the later one out",
    ),
    Kind(
        "box-nearly-duplicate",
        "warning",
        "objects seem labelled twice: same class, overlap (IoU) of 0.8 or more",
        "look at them and remove one",
    ),
    Kind(
        "box-two-classes",
        "warning",
        "boxes are nearly the same (IoU of 0.9 or more) but of two classes",
        "decide for one class",
    ),
    Kind(
        "box-radians",
        "warning",
        "the angles of all rotated boxes are within ±3.15: radians instead of degrees",
        "multiply them by 180/pi; angles count counter-clockwise",
        "multiplies them by 180/pi",
    ),
    Kind(
        "box-corner-outside",
        "note",
        "rotated boxes have corners outside of their images",
        "nothing if the object is cut by the edge",
    ),
    Kind(
        "object-difficult",
        "note",
        "objects are marked difficult; they are learned from like all others",
        "remove them if they should not be",
    ),
    Kind(
        "image-crowd-only",
        "note",
        "images have crowd regions only, nothing to learn from",
        "annotate single objects, or remove them",
    ),
)

_MASKS = (
    Kind(
        "mask-polygon",
        "error",
        "masks are neither polygons of three points or more nor run lengths",
        "draw them again, or remove them",
        "leaves the mask out",
    ),
    Kind(
        "mask-size",
        "error",
        "masks (run lengths) have another size than their images",
        "make them anew for the image that is there",
        _DROP_OBJECT,
    ),
    Kind(
        "mask-empty",
        "error",
        "masks have no pixel",
        "draw them again, or remove them",
        _DROP_OBJECT,
    ),
    Kind(
        "mask-missing",
        "warning",
        "objects have a box but no mask, while others have one",
        "draw the masks; such objects are not learned from as masks",
    ),
    Kind(
        "mask-box",
        "warning",
        "masks do not fit their boxes",
        "compute the boxes from the masks",
        "computes the box from the mask",
    ),
    Kind(
        "mask-outside",
        "warning",
        "polygons reach beyond the edges of their images",
        "clip them",
    ),
    Kind(
        "mask-crossing",
        "note",
        "the outlines of polygons cross themselves",
        "draw them again if the shape matters",
    ),
    Kind(
        "mask-parts",
        "note",
        "masks have several parts that do not touch",
        "nothing if something hides the middle; else remove stray parts",
    ),
    Kind(
        "mask-overlap",
        "note",
        "masks share pixels, though hardly any others in the data set do",
        "decide which object the pixels belong to",
    ),
)

_KEYPOINTS = (
    Kind(
        "keypoint-count",
        "error",
        "objects have another number of keypoints than their class",
        "give three numbers, x, y, visibility, to each of the class's keypoints",
        "leaves the keypoints out",
    ),
    Kind(
        "keypoint-value",
        "error",
        "keypoints are not finite, or their visibility is not 0, 1 or 2",
        "correct or remove them",
        "leaves the keypoints out",
    ),
    Kind(
        "keypoint-outside",
        "warning",
        "visible keypoints lie outside of their images",
        "correct them, or set their visibility to 0",
        "sets their visibility to 0",
    ),
)

_CLASSES = (
    Kind(
        "class-id-twice",
        "error",
        "ids of classes stand more than once",
        "give each class its own",
    ),
    Kind(
        "class-name-twice",
        "error",
        "classes have the same name",
        "merge them, or name them apart",
        "merges them",
    ),
    Kind(
        "class-nameless",
        "error",
        "classes have no name",
        "name them",
    ),
    Kind(
        "class-name-similar",
        "warning",
        "names of classes differ by case, spaces or punctuation only",
        "merge them, or name them apart",
    ),
    Kind(
        "class-name-space",
        "warning",
        "names of classes begin or end with a space",
        "remove the space",
        "removes the space",
    ),
    Kind(
        "class-name-number",
        "note",
        "names of classes are numbers",
        "give the names, if there are any",
    ),
    Kind(
        "class-background",
        "warning",
        "background, or what should be ignored, poses as a class to find",
        "remove it from the classes; regions to ignore are crowd regions in COCO's format",
    ),
    Kind(
        "class-supercategory",
        "warning",
        "the group of other classes poses as a class without objects, as some exports have it",
        "remove it from the classes",
        "leaves the class out",
    ),
    Kind(
        "class-unused",
        "warning",
        "classes have no objects",
        "remove them, or annotate some",
        "leaves the class out where no data set has an object of it",
    ),
    Kind(
        "class-single",
        "warning",
        "classes have one object, which is too few to learn and to measure",
        "annotate more, or merge the class with another",
    ),
    Kind(
        "class-rare",
        "warning",
        "classes have under a hundredth of the commonest class's objects",
        "annotate more, or sample with DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler",
    ),
    Kind(
        "class-id-gap",
        "note",
        "ids of classes have gaps, so that numbers in the files are not those of the model",
        "nothing; go by the names",
        "numbers the classes anew",
    ),
    Kind(
        "class-untrained",
        "warning",
        "classes are in the evaluation data but have no object to learn from",
        "split the data anew, so that each class is in both",
    ),
    Kind(
        "class-unmeasured",
        "note",
        "classes are learned but have no object in the evaluation data",
        "split the data anew, so that each class is in both",
    ),
    Kind(
        "classes-differ",
        "error",
        "data sets that belong together list other classes",
        "give them the same classes in the same order",
    ),
)

_COVERAGE = (
    Kind(
        "image-without-objects",
        "note",
        "images have no objects; training leaves them out unless "
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS is False",
        "make sure that nothing is on them",
    ),
    Kind(
        "image-few-objects",
        "note",
        "images have far fewer objects than the others: perhaps not all were labelled",
        "look at them and label the rest",
    ),
    Kind(
        "image-lacks-class",
        "note",
        "images lack a class that nearly all others show: perhaps it was not labelled",
        "look at them and label the rest",
    ),
)

_SEMANTIC = (
    Kind(
        "labels-missing",
        "error",
        "label images cannot be found or read",
        "add them, or remove the images",
        _DROP_IMAGE,
    ),
    Kind(
        "labels-size",
        "error",
        "label images have another size than their images",
        "make them anew",
        _DROP_IMAGE,
    ),
    Kind(
        "labels-channels",
        "error",
        "label images are coloured instead of holding a class's number in each pixel",
        "convert colours to numbers; `classes` must list the colours that are in the files",
    ),
    Kind(
        "labels-unlisted",
        "warning",
        "label images hold colours or numbers that no class has; they are ignored",
        "add them to the classes if they are some",
    ),
    Kind(
        "class-colours",
        "note",
        "lists of classes give a class different colours",
        "remove the list that is wrong",
    ),
    Kind(
        "labels-ignored",
        "warning",
        "label images have nothing but pixels to ignore",
        "label or remove them",
    ),
    Kind(
        "labels-much-ignored",
        "note",
        "a hundredth or more of label images is to be ignored",
        "label them if you know what is there",
    ),
)

_SIZES = (
    Kind(
        "object-below-stride",
        "warning",
        "objects become smaller than the model's finest stride at its input size",
        "raise INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN, or cut the images into tiles",
    ),
    Kind(
        "object-below-anchors",
        "warning",
        "objects become smaller than half the smallest anchor",
        "give smaller MODEL.ANCHOR_GENERATOR.SIZES, or larger INPUT.MIN_SIZE_TRAIN",
    ),
    Kind(
        "object-above-anchors",
        "warning",
        "objects become more than twice as large as the largest anchor",
        "give larger MODEL.ANCHOR_GENERATOR.SIZES, or smaller INPUT.MIN_SIZE_TRAIN",
    ),
    Kind(
        "object-aspect",
        "note",
        "objects are far longer than the anchors' aspect ratios",
        "add ratios to MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    ),
)

KINDS: dict[str, Kind] = {
    kind.code: kind
    for group in (
        _IMAGES,
        _RECORDS,
        _DUPLICATES,
        _BOXES,
        _MASKS,
        _KEYPOINTS,
        _CLASSES,
        _COVERAGE,
        _SEMANTIC,
        _SIZES,
    )
    for kind in group
}
