from d2ext.inference.timing import Stopwatch


def test_the_summary_has_the_rate_and_the_milliseconds_of_each_part():
    stopwatch = Stopwatch()
    with stopwatch.part("read"):
        pass
    stopwatch.seconds = {"read": 0.1, "detect": 0.4}
    stopwatch.rounds = 4
    assert stopwatch.summary("images") == (
        "4 images: 8.0 a second; ms each: read 25.0, detect 100.0"
    )


def test_parts_of_one_name_add_up_even_after_a_failure():
    stopwatch = Stopwatch()
    for _ in range(2):
        try:
            with stopwatch.part("read"):
                raise ValueError
        except ValueError:
            pass
    assert list(stopwatch.seconds) == ["read"]
    assert stopwatch.seconds["read"] > 0
    assert "0 images: 0.0 a second" in stopwatch.summary("images")
