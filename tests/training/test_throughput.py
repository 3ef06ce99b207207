"""Images a second, and the share of the time that a training waits for data."""

from modeling_maskformer.training.throughput import Throughput


def test_evaluation_is_no_training_and_each_report_begins_anew():
    now = [100.0]

    def pass_seconds(seconds):
        now[0] += seconds

    throughput = Throughput(clock=lambda: now[0])
    pass_seconds(50)  # before the first batch
    for _ in range(2):
        with throughput.waiting():
            pass_seconds(1)
        throughput.count(4)
        pass_seconds(3)
        with throughput.stopped():
            pass_seconds(1000)
    assert throughput.report() == {"images_per_second": 1.0, "waiting_for_data": 0.25}
    assert throughput.report() == {}
    with throughput.waiting():
        pass_seconds(2)
    throughput.count(6)
    with throughput.stopped():
        assert throughput.report() == {"images_per_second": 3.0, "waiting_for_data": 1.0}
