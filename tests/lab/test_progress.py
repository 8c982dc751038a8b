import io

import pytest

from lotto.lab import progress


def test_the_steps_of_one_long_product_are_told(tmp_path, monkeypatch):
    file = tmp_path / "progress"
    monkeypatch.setenv("LOTTO_PROGRESS", str(file))
    steps = progress.Progress("distil (dist)", 100, first=10)
    steps.reached(25, 1.5)  # at once after the start: not worth a line
    steps.noted -= 6
    steps.reached(50, 1.2)
    assert file.read_text() == "distil (dist) 10/100\ndistil (dist) 50/100\n"
    steps.reached(100, 1.0)
    assert file.read_text().splitlines()[2:] == ["distil (dist) 100/100"]
    monkeypatch.setattr(progress, "in_worker", True)  # in a worker, products are what is counted
    progress.Progress("distil (dist)", 100).reached(100, 1.0)
    assert len(file.read_text().splitlines()) == 3


def test_what_is_being_done_and_for_how_long():
    stages = progress.Stages(0)
    assert stages.line(7) == "nothing to count (imports, tables, figures), for 7 s"
    stages.read(text := "distil 0/3\ndisti", 10)  # the last line is not whole yet
    assert stages.line(15) == "distil 0/3, for 5 s"
    stages.read(text := text + "l (dist) 0/100\n", 16)
    stages.read(text := text + "distil (dist) 50/100\n", 40)  # a sixth of all
    assert stages.line(40) == "distil 0/3, distil (dist) 50/100, about 2 min left"
    assert stages.line(100) == "distil 0/3, distil (dist) 50/100, about 90 s left"
    stages.read(text := text + "distil (dist) 100/100\ndistil 1/3\n", 70)
    assert stages.line(70) == "distil 1/3, about 2 min left"
    assert stages.line(300) == "distil 1/3"
    stages.read(text := text + "distil 3/3\n", 90)  # finished: not told as if it ran
    assert stages.line(95) == "nothing to count (imports, tables, figures), for 5 s"
    stages.read(text := text + "walk paths 0/4\nwalk paths 1/4\n", 100)
    assert stages.line(110) == "walk paths 1/4"
    stages.read(text, 120)
    assert stages.line(120) == "walk paths 1/4"


def test_a_stage_left_open_within_another_is_forgotten():
    stages = progress.Stages(0)
    stages.read("outer 0/2\ninner 3/9\nouter 1/2\n", 1)
    assert list(stages.open) == ["outer"]


@pytest.mark.parametrize(("seconds", "said"), [(-3, "0 s"), (99, "99 s"), (170, "3 min"), (7800, "2 h 10 min")])
def test_spans(seconds, said):
    assert progress._span(seconds) == said


def test_a_bar_with_loss_and_memory_where_somebody_looks(monkeypatch, capsys):
    monkeypatch.delenv("LOTTO_HEADLESS")
    monkeypatch.delenv("LOTTO_PROGRESS", raising=False)
    steps = progress.Progress("distil (dist)", 100, first=10)
    steps.reached(60, 0.1234)
    steps.bar.refresh()
    steps.bar.close()
    said = capsys.readouterr().err
    assert "distil (dist)" in said
    assert "60/100" in said
    assert "loss=0.123" in said
    assert "GiB" in said


def test_a_note_is_told_as_it_is_and_counts_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LOTTO_PROGRESS", str(tmp_path / "progress"))
    told = progress.Progress("search masks", 4)
    progress.note("lost a worker: 2 left")
    told.step()
    stages = progress.Stages(0.0)
    stages.read((tmp_path / "progress").read_text(), 1.0)
    assert stages.notes == ["lost a worker: 2 left"]
    assert stages.open == {"search masks": (1, 4)}


def test_lines_of_several_at_once_bear_their_names():
    told = io.StringIO()
    one, two = progress.Named("ipc=5", told), progress.Named("ipc=10", told)
    print("02 ...", file=one)
    print("a part ", end="", file=two)  # nothing is told before its line is whole
    print(file=one)
    print("and its end\nanother", file=two)
    assert told.getvalue() == "ipc=5 | 02 ...\nipc=10 | a part and its end\nipc=10 | another\n"
    assert not one.isatty()
