"""Peak memory of sequences of operations, by hand."""

import pytest

from mbdet.cost.memory import Peak, Step, peak_memory


def step(name: str, reads: tuple[int, ...], writes: tuple[int, ...], elementwise: bool = False) -> Step:
    return Step(name, reads, writes, elementwise)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([step("a", (0,), (1,)), step("b", (1,), (2,))], Peak(300, "b")),  # the input is gone in b
        ([step("a", (0,), (1,)), step("b", (1,), (2,)), step("c", (0,), (3,))], Peak(310, "b")),  # here it is not
        ([step("a", (0,), (1,)), step("b", (1,), (4,), True)], Peak(110, "a")),  # b overwrites
        ([step("a", (0,), (1,)), step("b", (1,), (4,))], Peak(200, "b")),  # b is not elementwise
        ([step("a", (0,), (1,)), step("b", (1,), (2,), True)], Peak(300, "b")),  # nor of the same size
        ([step("a", (0,), (1,)), step("b", (1,), (4,), True), step("c", (1,), (3,))], Peak(200, "b")),  # still needed
        ([step("a", (0,), (1,)), step("b", (1,), (1,), True)], Peak(110, "a")),  # in place already
        ([step("a", (0,), (5,), True)], Peak(20, "a")),  # the caller's image is not overwritten
        ([], Peak(0, "")),
    ],
)
def test_by_hand(steps: list[Step], expected: Peak) -> None:
    """Buffers 0 to 5 have 10, 100, 200, 1, 100 and 10 elements; 0 is the input."""
    assert peak_memory(steps, [10, 100, 200, 1, 100, 10], inputs=[0], outputs=[]) == expected


def test_outputs_are_held_to_the_end() -> None:
    steps = [step("a", (0,), (1,)), step("b", (0,), (2,)), step("c", (2,), (3,))]
    assert peak_memory(steps, [1, 10, 20, 30], inputs=[0], outputs=[]) == Peak(50, "c")
    assert peak_memory(steps, [1, 10, 20, 30], inputs=[0], outputs=[1, 3]) == Peak(60, "c")
