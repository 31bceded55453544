"""What a sweep's file becomes: which runs, with which configurations, in which order."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_files import write_sweep

from common.errors import ConfigError
from tools.config import RunConfig
from tools.sweep.execute import default_jobs
from tools.sweep.plan import Plan, point_name

ARM = '[[arms]]\nname = "plain"\n'


def plan_of(folder: Path, text: str, *overrides: str) -> Plan:
    return Plan(write_sweep(folder, text), folder / "runs", overrides)


def names(plan: Plan) -> list[str]:
    return [plan.name(run) for run in plan.runs]


def test_an_arm_alone_is_one_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ARM)
    assert names(plan) == ["plain/default/seed0"]
    (config,) = plan.expected.values()
    assert (config.train.seed, config.train.epochs, config.data.name) == (0, 2, "digits")


def test_grids_multiply_with_arms_and_seeds(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        'seeds = [3, 5]\n[grid]\n"train.learning_rate" = [0.1, 0.2]\n"train.weight_decay" = [0.0, 1e-4]\n'
        '[[arms]]\nname = "a"\n'
        '[[arms]]\nname = "b"\nseeds = [7]\ngrid = { "train.learning_rate" = [0.4] }\n'
        '[[arms]]\nname = "c"\nset = { train.learning_rate = 0.8, train.weight_decay = 0.0 }\n',
    )
    found = {
        (run.arm, config.train.learning_rate, config.train.weight_decay, config.train.seed)
        for run, config in plan.expected.items()
    }
    assert found == {
        *(("a", rate, decay, seed) for rate in (0.1, 0.2) for decay in (0.0, 1e-4) for seed in (3, 5)),
        *(("b", 0.4, decay, 7) for decay in (0.0, 1e-4)),
        *(("c", 0.8, 0.0, seed) for seed in (3, 5)),
    }
    assert len(set(names(plan))) == len(plan.runs) == 12
    assert "a/learning_rate=0.1,weight_decay=0.0001/seed5" in names(plan)
    assert "c/default/seed3" in names(plan)


def test_overrides_win_and_dotted_keys_may_be_tables(tmp_path: Path) -> None:
    text = ARM + "[arms.set]\ntrain.epochs = 9\ntrain.netaug = { alpha = 0.5 }\n"
    (config,) = plan_of(tmp_path, text, "train.epochs=3").expected.values()
    assert config.train.epochs == 3
    assert config.train.netaug.alpha == 0.5


def test_an_arm_comes_after_what_it_needs_and_knows_its_folder(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        'seeds = [0, 1]\n[[arms]]\nname = "student"\nneeds = ["teacher", "one"]\n'
        'set = { "train.objective" = "rco_kd", '
        '"train.distillation.teachers" = ["{run:teacher}/train", "{run:one}/train"] }\n'
        '[[arms]]\nname = "teacher"\n[[arms]]\nname = "one"\nseeds = [4]\n',
    )
    order = names(plan)
    for run, config in plan.expected.items():
        if run.arm == "student":
            teacher = plan.folder / "teacher" / "default" / f"seed{run.seed}"
            one = plan.folder / "one" / "default" / "seed4"
            assert config.train.distillation.teachers == (teacher / "train", one / "train")
            assert {other.folder for other in plan.waits_for(run)} == {teacher, one}
            assert all(
                order.index(plan.name(other)) < order.index(plan.name(run)) for other in plan.waits_for(run)
            )


def test_a_needed_run_is_the_one_at_the_same_point(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        '[grid]\n"train.learning_rate" = [0.1, 0.2]\n[[arms]]\nname = "teacher"\n'
        '[[arms]]\nname = "student"\nneeds = ["teacher"]\ngrid = { "train.momentum" = [0.8, 0.9] }\n'
        'set = { "train.initial" = "{run:teacher}/train" }\n',
    )
    for run, config in plan.expected.items():
        if run.arm == "student":
            rate = run.point.values["train.learning_rate"]
            place = plan.folder / "teacher" / f"learning_rate={rate}" / "seed0" / "train"
            assert config.train.initial == place


def test_tuning_comes_first_with_its_own_seeds_and_settings(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        'seeds = [0, 1]\n[tune]\nseeds = [8, 9]\nset = { "data.validation" = 50 }\n'
        'grid = { "train.learning_rate" = [0.1, 0.2] }\n'
        '[[arms]]\nname = "student"\nneeds = ["teacher"]\ntune = { "train.learning_rate" = [0.3] }\n'
        'set = { "train.initial" = "{run:teacher}/train" }\n'
        '[[arms]]\nname = "teacher"\nset = { "train.learning_rate" = 0.5 }\n'
        '[[arms]]\nname = "alone"\nset = { "train.learning_rate" = 0.5 }\n',
    )
    tune = {plan.name(run): plan.expected[run] for run in plan.runs if run.stage == "tune"}
    assert list(tune) == [
        f"{place}/seed{seed}"
        for place in ("teacher/default/tune/default", "student/default/tune/learning_rate=0.3")
        for seed in (8, 9)
    ], "a teacher of the first stage has not seen the held-out images either"
    assert all(config.data.validation == 50 for config in tune.values())
    assert tune["student/default/tune/learning_rate=0.3/seed9"].train.initial == (
        plan.folder / "teacher/default/tune/default/seed9/train"
    )
    final = [run for run in plan.runs if run.stage == "final"]
    assert len(final) == 6
    assert all(plan.expected[run].data.validation == 0 for run in final)
    student = next(run for run in final if run.arm == "student")
    assert {plan.name(run) for run in plan.waits_for(student)} == {
        "teacher/default/seed0", *(name for name in tune if name.startswith("student"))
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = [0]\n" + ARM, "unknown key 'seed'; did you mean 'seeds'?"),
        (ARM + "sett = {}\n", "unknown key 'arms.0.sett'; did you mean 'set'?"),
        ("[tune]\nseed = [1]\ngrid = {}\n" + ARM, "unknown key 'tune.seed'; did you mean 'seeds'?"),
        ("", "arms: Field required"),
        ("seeds = []\n" + ARM, "seeds: Tuple should have at least 1 item"),
        ("seeds = [1, 1]\n" + ARM, "names a seed twice"),
        (ARM + ARM, "two arms are named 'plain'"),
        ('[[arms]]\nname = "../up"\n', "arms.0.name: '../up' cannot name a folder: give up to 60 letters"),
        ('[[arms]]\nname = "my arm"\n', "arms.0.name: 'my arm' cannot name a folder"),
        (ARM + 'needs = ["nobody"]\n', "names the arm 'nobody'; there are: plain"),
        (ARM + 'reference = "nobody"\n', "names the arm 'nobody'; there are: plain"),
        (ARM + 'needs = ["plain"]\n', "plain needs plain"),
        (ARM + 'set = { "train.initial" = "{run:x}" }\n', 'name it in needs = ["x"]'),
        ('[grid]\n"train.initial" = ["{run:plain}"]\n' + ARM, "only an arm can need another"),
        (ARM + 'set = { "train.epoch" = 3 }\n', "arm 'plain': unknown key 'train.epoch'"),
        (ARM + 'set = { "train.epochs.x" = 3 }\n', "'epochs' is not a section"),
        (ARM + 'set = { "train.epochs" = 0 }\n', "train.epochs: Input should be greater than 0"),
        (ARM + 'set = { "train.seed" = 3 }\n', "train.seed comes from seeds"),
        (ARM + 'set = { "train.epochs" = 3, train.epochs = 4 }\n', "'train.epochs' is set twice"),
        (ARM + 'set = { "train.epochs" = 3 }\ngrid = { "train.epochs" = [3] }\n', "one value and several"),
        (ARM + 'grid = { "train.epochs" = [] }\n', "at least 1 item"),
        (ARM + 'grid = { "train.epochs" = [3, 3] }\n', "the grid has a value twice"),
        (ARM + 'tune = { "train.epochs" = [3] }\n', "the file has no [tune]"),
        (
            'seeds = [2, 3]\n[[arms]]\nname = "a"\nseeds = [0, 1]\n[[arms]]\nname = "b"\nneeds = ["a"]\n',
            "which has other seeds",
        ),
        (
            '[[arms]]\nname = "a"\ngrid = { "train.epochs" = [3, 4] }\n[[arms]]\nname = "b"\nneeds = ["a"]\n',
            "which has 2 points",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_that_names_the_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(tmp_path, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such sweep file"):
        Plan(tmp_path / "absent.toml", tmp_path)
    path = write_sweep(tmp_path, ARM)
    (tmp_path / "base.toml").unlink()
    with pytest.raises(ConfigError, match=r"base\.toml: no such configuration file"):
        Plan(path, tmp_path)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "default"),
        ({"train.learning_rate": 0.1, "data.flip": True}, "learning_rate=0.1,flip=true"),
        ({"a.x": 1, "b.x": 2}, "a.x=1,b.x=2"),
        ({"train.netaug.width": [1.0, 1.5]}, "width=[1.0,1.5]"),
    ],
)
def test_points_are_named_after_their_values(values: dict[str, object], name: str) -> None:
    assert point_name(values) == name


def test_names_of_points_are_names_of_files() -> None:
    long = {"train.initial": "/a" * 100}
    other = {"train.initial": "/a" * 99 + "/b"}
    assert "/" not in point_name(long)
    assert len(point_name(long)) < 100
    assert point_name(long) != point_name(other)


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "jobs"), [(1, 1, 8, 8), (2, 2, 9, 2), (4, 1, 2, 1), (1, None, 8, 1)]
)
def test_as_many_runs_at_once_as_the_cores_hold(
    workers: int, threads: int | None, cores: int, jobs: int
) -> None:
    train = {"workers": workers, "threads": threads}
    small = RunConfig.model_validate({"train": {"threads": 1}})
    assert default_jobs([small, RunConfig.model_validate({"train": train})], cores) == jobs
