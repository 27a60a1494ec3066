import pytest

from tests.cuda_emulation.translate import translate


def test_a_launch_becomes_a_call_of_the_emulator():
    text = "{\n  gather<T, 4><<<blocks(in), 256, 0, stream>>>(shape, in);\n}"
    launch = '::emulated::launch("gather<T, 4>", {blocks(in), 256, 0, stream}, gather<T, 4>, '
    assert translate(text, {}) == f"{{\n  {launch}shape, in);\n}}"


def test_a_shared_variable_becomes_a_reference_to_the_arena():
    text = "__shared__ Found<Wide<T>> found[kChunk];"
    assert translate(text, {}) == "auto& found = ::emulated::shared<Found<Wide<T>>[kChunk]>();"


@pytest.mark.parametrize("text", ["extern __shared__ float all[];", "run(kernel<<<1, 2>>>(x));"])
def test_an_unknown_form_raises(text):
    with pytest.raises(ValueError, match="not of a known form"):
        translate(text, {})


def test_a_constant_that_is_gone_raises():
    with pytest.raises(ValueError, match="no 'kChunk = 64' to make smaller"):
        translate("constexpr int kChunk = 32;", {"kChunk = 64": "kChunk = 32"})
