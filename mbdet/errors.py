"""The one exception that means "something you gave is wrong"."""


class InputError(ValueError):
    """A file, record, option or weight that the user gave cannot be used.

    The message is a single line that names the file, the record and the cure. The commands print it as it is and exit
    with status 2; nothing else of ours is raised for bad input.
    """

    def __init__(self, message: str) -> None:
        # A DataLoader worker hands its exception over as text, with the worker's traceback in front of our line.
        super().__init__(message.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


def first_line(error: BaseException) -> str:
    """Return what an exception says, short enough for a line of ours; its class if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
