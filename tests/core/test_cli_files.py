"""Configuration files at the command line: mistakes with their lines, files from code, what watching sees."""

import importlib
import json
import os
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

import meshserve as serve
from meshserve.api.client import ConfigAnswer
from meshserve.cli.changes import as_lines
from meshserve.cli.config_file import ConfigFile
from meshserve.cli.environment_flags import environment_of
from meshserve.cli.ingress_flags import address_flag
from meshserve.cli.main import main
from meshserve.cli.reload import forget_modules, picture, wait_for_change
from meshserve.cli.source import file_source, path_source
from meshserve.cli.yaml_text import as_yaml
from meshserve.model.declared import Change, ChangeKind, FieldChange
from meshserve.schema import ServeDeploySchema

APPLICATIONS = """
import meshserve as serve

@serve.deployment(num_replicas="auto", max_ongoing_requests=7, user_config={"a": 1})
class Model:
    pass

@serve.deployment
class Front:
    def __init__(self, model):
        pass

app = Front.bind(Model.bind())
other = Model.bind()

def build(args):
    return app
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "applications_of_files.py").write_text(APPLICATIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("applications_of_files", None)


def written(folder, text):
    path = folder / "serve.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "applications:\n- import_path: a:b\n  deployments:\n  - name: A\n    num_replica: 3\n",
            "line 5: applications[0].deployments[0].num_replica: there is no such field. Did you mean 'num_replicas'?",
        ),
        (
            "applications:\n- import_path: a:b\n  deployments:\n  - name: A\n  - name: B\n    num_replicas: 0\n",
            "line 6: applications[0].deployments[1].num_replicas: ",
        ),
        (
            "applications:\n- import_path: a:b\n  deployments:\n  - name: A\n    max_ongoing_requests: lots\n",
            "line 5: applications[0].deployments[0].max_ongoing_requests: ",
        ),
        (
            "http_option: {}\napplications: []\n",
            "line 1: http_option: there is no such field. Did you mean 'http_options'?",
        ),
        ("applications:\n- name: a\n", "line 2: applications[0].import_path: it is missing"),
        (
            "applications:\n- name: a\n  name: b\n  import_path: a:b\n",
            "line 3: applications[0].name: it is written twice",
        ),
        (
            "applications: []\nlogging_config: {log_level: LOUD}\n",
            "logging_config.log_level: log_level must be",
        ),
        (
            "applications:\n- {name: a, import_path: a:b}\n- {name: a, import_path: a:b, route_prefix: /b}\n",
            'line 1: applications: Found multiple configs for application "a"',
        ),
        ("import_path: a:b\n", "describes one application"),
        ("- a\n", "is not a configuration file"),
        ("applications: [\n", "is not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_path(folder, text, said):
    with pytest.raises(click.ClickException) as caught:
        ConfigFile(written(folder, text))
    assert said in caught.value.message


def test_the_schema_is_named_when_a_file_is_not_valid(folder):
    said = CliRunner().invoke(main, ["deploy", written(folder, "applications:\n- name: a\n")])
    assert said.exit_code == 1
    assert "ValidationError of ServeDeploySchema" in said.output


def test_fields_of_other_releases_are_passed_over_with_a_word(folder, capsys):
    text = "applications:\n- import_path: a:b\n  zzz_future: 1\n  deployments:\n  - {name: A, route_prefix: /old}\n"
    schema = ConfigFile(written(folder, text)).schema
    assert schema.applications[0].deployment_names == ["A"]
    told = capsys.readouterr().err
    assert "line 3: applications[0].zzz_future: there is no such field; it is ignored" in told
    assert "line 5: applications[0].deployments[0].route_prefix" in told


def test_build_writes_what_stands_in_the_code_and_deploy_takes_it(folder):
    said = CliRunner().invoke(
        main, ["build", "applications_of_files:app", "applications_of_files:other", "-o", "out.yaml"]
    )
    assert said.exit_code == 0, said.output
    content = yaml.safe_load((folder / "out.yaml").read_text())
    ServeDeploySchema.model_validate(content)
    first, second = content["applications"]
    assert (first["name"], first["route_prefix"], first["import_path"]) == (
        "app1",
        "/app1",
        "applications_of_files:app",
    )
    assert first["deployments"] == [
        {
            "name": "Model",
            "autoscaling_config": {"min_replicas": 1, "max_replicas": 100},
            "max_ongoing_requests": 7,
            "user_config": {"a": 1},
        },
        {"name": "Front"},
    ]
    assert second["route_prefix"] == "/app2"
    assert ConfigFile("out.yaml").schema.applications[0].name == "app1"


def test_build_of_a_function_says_where_it_belongs(folder):
    said = CliRunner().invoke(main, ["build", "applications_of_files:build"])
    assert said.exit_code == 1
    assert "args" in said.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deploy", "nowhere.yaml"], "There is no file 'nowhere.yaml'"),
        (["deploy", "serve.yaml", "a=b"], "Arguments are for import paths"),
        (["deploy", "module:app", "not-a-pair"], "KEY=VALUE"),
        (["deploy", "no_path"], "import_path"),
        (["deploy", "module:app", "--working-dir", "."], "--app-dir"),
        (["deploy", "module:app", "--runtime-env-json", "{"], "cannot be read"),
        (["run", "serve.yaml", "--reload", "--non-blocking"], "use one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_started(folder, arguments, said):
    written(folder, "applications: []\n")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert said in result.output


def test_modules_are_looked_for_beside_the_file_and_in_the_folder_named(folder):
    source = file_source(written(folder, "applications: []\n"), "elsewhere")
    assert source.import_paths == (str(folder / "elsewhere"), str(folder))
    source = path_source("module:app", ["a=1"], "mine", {"env_vars": {"A": "1"}}, ".")
    assert json.loads(source.json) == {
        "applications": [
            {"import_path": "module:app", "args": {"a": "1"}, "runtime_env": {"env_vars": {"A": "1"}}, "name": "mine"}
        ]
    }
    around = source.within({"env_vars": {"A": "outer", "B": "outer"}, "pip": ["numpy"]})
    assert around.schema.applications[0].runtime_env == {"env_vars": {"A": "1", "B": "outer"}, "pip": ["numpy"]}


def test_a_runtime_environment_comes_from_one_place_and_the_flag_names_the_folder(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text("env_vars: {A: b}\nworking_dir: s3://x/y.zip\n")
    assert environment_of(str(path), None, "s3://z.zip") == {"env_vars": {"A": "b"}, "working_dir": "s3://z.zip"}
    assert environment_of(None, '{"pip": ["a"]}', None) == {"pip": ["a"]}
    for wrong in ((str(path), "{}", None), (None, "[]", None), ("nowhere.yaml", None, None)):
        with pytest.raises(click.ClickException):
            environment_of(*wrong)


@pytest.mark.parametrize(
    ("written", "read", "warned"),
    [("http://localhost:8265", "", True), ("auto", "", False), ("10.0.0.1:6379", "10.0.0.1:6379", False)],
)
def test_a_dashboard_is_no_address_and_is_said_to_be_none(written, read, warned):
    command = address_flag(click.command()(lambda address: click.echo(f"<{address}>")))
    said = CliRunner().invoke(command, ["-a", written])
    assert f"<{read}>" in said.stdout
    assert ("is a dashboard" in said.stderr) is warned


def test_watching_sees_changed_new_and_removed_files_and_no_hidden_ones(tmp_path):
    for name in ("a.py", "b.yaml", "c.txt", ".hidden/d.py", "venv/pyvenv.cfg", "venv/lib.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    before = picture(tmp_path)
    assert {os.path.relpath(path, tmp_path) for path in before} == {"a.py", "b.yaml"}
    (tmp_path / "a.py").write_text("22")
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "e.py").write_text("1")
    assert wait_for_change(tmp_path, before)[1] == ["a.py", "b.yaml", "e.py"]


def test_modules_of_the_folder_are_imported_anew_and_no_others(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    first = importlib.import_module("applications_of_files")
    forget_modules(folder)
    assert importlib.import_module("applications_of_files") is not first
    for package in (serve, yaml):
        forget_modules(Path(package.__file__).parent)
    assert importlib.import_module("meshserve") is serve
    assert importlib.import_module("yaml") is yaml


def test_long_texts_are_blocks_and_colours_are_left_out():
    text = as_yaml({"message": "\x1b[31mTraceback\x1b[0m \n\tline\n", "plain": "x"})
    assert text == "message: |\n  Traceback\n          line\nplain: x\n"


def test_changes_are_told_by_application_and_field():
    fields = (FieldChange("a", "1", "2"), FieldChange("b", "", "3"), FieldChange("c", "4", ""))
    answer = ConfigAnswer(1, (Change("app", ChangeKind.UPDATE, fields), Change("x", ChangeKind.DELETE)), ("http.port",))
    assert as_lines(answer) == [
        "~ app changes in place",
        "    a: 1 -> 2",
        "    b: 3",
        "    c: no longer 4",
        "- x is deleted",
        "Ignored, since the mesh runs already with other ones: http.port.",
    ]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("meshserve.examples.quickstrat:app", "Did you mean 'meshserve.examples.quickstart'?"),
        ("meshserve.examples.quickstart:aap", "has no attribute 'aap'. Did you mean 'app'?"),
        (
            "meshserve.examples.quickstart",
            "is a module: name something in it, as in 'meshserve.examples.quickstart:app'",
        ),
        ("meshserve/examples/quickstart.py", "as in 'meshserve.examples.quickstart:app'"),
        ("./quickstart.py:app", "as in 'quickstart:app'"),
        ("quickstart.py", "as in 'quickstart:app'"),
        ("application_of_files:app", "Did you mean 'applications_of_files'?"),
        ("nowhere", "is not an import path: write 'package.module.name' or 'package.module:name'"),
    ],
)
def test_a_mistyped_import_path_is_answered_with_what_was_meant_and_no_traceback(folder, target, said):
    result = CliRunner().invoke(main, ["run", target])
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_module_that_cannot_be_imported_is_told_with_the_line_that_fails(folder):
    (folder / "needs_more.py").write_text("import no_such_package\n")
    result = CliRunner().invoke(main, ["run", "needs_more:app"])
    assert result.exit_code == 1
    assert "import no_such_package" in result.output
    assert "run_jobs.py" not in result.output
