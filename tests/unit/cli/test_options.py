"""The argument scan: our options stand before the program, everything after it is the program's own."""

import pytest

from nexus.base.errors import UsageError
from nexus.cli import run_options
from nexus.cli.options import Parsed, number, parse, seconds
from nexus.cli.run_options import RUN


def scan(*words: str) -> Parsed:
    return parse(words, RUN, "run")


def test_what_follows_the_program_is_left_alone() -> None:
    parsed = scan("-q", "--timeout", "5", "app.exe", "--timeout", "-A", "--", "x")
    assert parsed.rest == ["app.exe", "--timeout", "-A", "--", "x"]
    assert parsed.flags == {"quiet"}
    assert seconds(parsed, "timeout") == 5


def test_optional_values_take_only_the_equals_form() -> None:
    parsed = scan("--allow-read", "app.exe")
    assert parsed.rest == ["app.exe"]
    assert run_options.permissions(parsed).read == ["/"]
    assert run_options.permissions(scan("--allow-write=/a,/b", "--allow-write=/c", "x")).write == [
        "/a",
        "/b",
        "/c",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tiemout", "5", "x"], "unknown option --tiemout"),
        (["--timeout"], "--timeout needs a value"),
        (["--quiet=1", "x"], "takes no value"),
        (["--allow-read=", "x"], "needs a value"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scan(*words)


def test_a_misspelt_option_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        scan("--tiemout", "5", "x")
    assert caught.value.hint == "did you mean --timeout?"


@pytest.mark.parametrize(("text", "value"), [("64", 64), ("1K", 1024), ("3m", 3 << 20), ("2G", 2 << 30)])
def test_sizes(text: str, value: int) -> None:
    assert number(scan("--memory", text, "x"), "memory") == value


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "²"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        number(scan(f"--memory={text}", "x"), "memory")


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", ""])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        seconds(scan(f"--timeout={text}", "x"), "timeout")


def test_only_the_listed_variables_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("TERM", "dumb")
    passed = run_options.environment(scan("--env", "A=1", "x"))
    assert passed["A"] == "1"
    assert passed["TERM"] == "dumb"
    assert "SECRET" not in passed
    assert run_options.environment(scan("--env", "SECRET", "x"))["SECRET"] == "x"
    assert run_options.environment(scan("--env-all", "x"))["SECRET"] == "x"


def test_a_variable_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match="NO_SUCH_NAME_HERE"):
        run_options.environment(scan("--env", "NO_SUCH_NAME_HERE", "x"))


def test_seed() -> None:
    assert run_options.seed(scan("x")) is None
    assert run_options.seed(scan("--deterministic", "x")) == 0
    assert run_options.seed(scan("--deterministic=7", "x")) == 7
    with pytest.raises(UsageError):
        run_options.seed(scan("--deterministic=a", "x"))
