from pathlib import Path

import pytest

from mbdet.errors import InputError
from mbdet.runtime.files import check_writable, write_atomically


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    with write_atomically(path) as temporary:
        temporary.write_text("whole")
        assert (temporary.parent, temporary.suffix) == (path.parent, ".json")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")

    def fail() -> None:
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file/a.json", "folder"])
def test_an_impossible_place_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"{name}: cannot be written"), write_atomically(tmp_path / name) as temporary:
        temporary.touch()
    with pytest.raises(InputError, match=r"cannot be written|is a folder"):
        check_writable(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_asking_changes_nothing_but_makes_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    check_writable(path)
    assert list(tmp_path.rglob("*")) == [path.parent]
    path.write_text("before")
    check_writable(path)
    assert path.read_text() == "before"
