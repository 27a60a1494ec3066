"""Which data set a repeated picture is told of."""

from d2ext.data.checks.run import check_sources
from d2ext.data.flags import named_sources
from tests.helpers.planted_dataset import picture


def test_data_to_evaluate_on_are_no_leak_of_each_other(garden):
    garden.check()
    train, val = garden.flags()
    sources = named_sources(train, [val])
    report = check_sources({**sources, "test": sources["val"]})
    assert {fault.code for fault in report.faults} == {"duplicate-image"}
    assert {fault.split for fault in report.faults} == {"test"}
    assert all(" of val, the same bytes" in fault.detail for fault in report.faults)


def test_each_picture_is_told_once_with_the_one_that_it_is_most_like(garden):
    for quality in (60, 50, 40):
        garden.add_box(garden.add_image(picture(1), f"q{quality}.jpg"), [5, 5, 20, 20])
        picture(1).save(garden.folder / "train" / f"q{quality}.jpg", quality=quality)
    found = [fault for fault in garden.check().faults if fault.code == "duplicate-near"]
    assert [fault.image.name for fault in found] == ["q60.jpg", "q50.jpg", "q40.jpg"]
