"""Grants: narrow by default, never the home folder unasked, never nexus itself."""

import os
from pathlib import Path

import pytest

from nexus.base.errors import UsageError
from nexus.base.folders import CHECKOUT, cache_folder
from nexus.system.permissions import NetRule, Network, Permissions, protected, remedy


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("home/me/work", "tools", "data/secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tools/app.exe").touch()
    (tmp_path / "home/me/app.exe").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home/me"))
    return tmp_path


def rights(permissions: Permissions, program: Path, folder: Path) -> dict[str, str]:
    grants, _ = permissions.grants(str(program), str(folder))
    return {grant.path: "r" * grant.read + "w" * grant.write for grant in grants}


def test_default_is_the_two_folders_read_only(tree: Path) -> None:
    got = rights(Permissions(), tree / "tools/app.exe", tree / "home/me/work")
    assert got == {str(tree / "tools"): "r", str(tree / "home/me/work"): "r"}


@pytest.mark.parametrize("folder", ["home/me", "home", "."])
def test_home_and_its_parents_are_not_granted_unasked(tree: Path, folder: str) -> None:
    grants, line = Permissions().grants(str(tree / "tools/app.exe"), str(tree / folder))
    assert [grant.path for grant in grants] == [str(tree / "tools")]
    assert f"--allow-read={tree / folder}" in line


def test_a_program_in_the_home_folder_is_granted_alone(tree: Path) -> None:
    got = rights(Permissions(isolated=True), tree / "home/me/app.exe", tree)
    assert got == {str(tree / "home/me/app.exe"): "r"}


def test_isolated_leaves_the_current_folder_out(tree: Path) -> None:
    got = rights(Permissions(isolated=True), tree / "tools/app.exe", tree / "data")
    assert got == {str(tree / "tools"): "r"}


def test_write_includes_read_and_reaches_down(tree: Path) -> None:
    got = rights(Permissions(write=[str(tree)]), tree / "tools/app.exe", tree / "data")
    assert got == {str(tree): "rw", str(tree / "tools"): "rw", str(tree / "data"): "rw"}


def test_denials_overrule_grants(tree: Path) -> None:
    secret = str(tree / "data/secret")
    permissions = Permissions(write=[str(tree)], deny_read=[secret], deny_write=[str(tree / "tools")])
    got = rights(permissions, tree / "tools/app.exe", tree / "data")
    assert got[secret] == ""
    assert got[str(tree / "tools")] == "r"
    assert got[str(tree / "data")] == "rw"


def test_granting_what_is_not_there_is_a_mistake(tree: Path) -> None:
    with pytest.raises(UsageError, match="--allow-read"):
        Permissions(read=[str(tree / "nowhere")]).grants(str(tree / "tools/app.exe"), str(tree))


def test_nexus_itself_is_protected(tmp_path: Path) -> None:
    os.makedirs(cache_folder(), exist_ok=True)
    assert {CHECKOUT, cache_folder(), str(tmp_path)} <= set(protected(str(tmp_path)))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org", "example.org", None),
        ("Example.ORG:443", "example.org", 443),
        ("[::1]:80", "::1", 80),
        ("::1", "::1", None),
        (":80", "*", 80),
        ("*", "*", None),
    ],
)
def test_net_rules(text: str, host: str, port: int | None) -> None:
    rule = NetRule.parse(text)
    assert (rule.host, rule.port) == (host, port)


@pytest.mark.parametrize("text", ["http://x", "x:0", "x:65536", "x:http", "[::1", "[::1]x"])
def test_net_rules_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        NetRule.parse(text)


def test_a_name_in_a_rule_covers_the_addresses_it_resolved_to() -> None:
    network = Network([NetRule.parse("example.org:443")], [NetRule.parse("10.0.0.1")])
    assert network.may_resolve("example.org")
    assert not network.may_resolve("elsewhere.org")
    assert not network.may_use("192.0.2.7", 443)
    network.learn("example.org", ["192.0.2.7", "10.0.0.1"])
    assert network.may_use("192.0.2.7", 443)
    assert not network.may_use("192.0.2.7", 80)
    assert not network.may_use("10.0.0.1", 443)
    assert network.used == {"192.0.2.7:443"}


def test_wildcards_cover_the_names_below_but_not_the_domain() -> None:
    rule = NetRule.parse("*.example.org")
    assert rule.names("a.example.org") and rule.names("a.b.EXAMPLE.org.")
    assert not rule.names("example.org") and not rule.names("badexample.org")


def test_a_refusal_names_a_flag_only_where_one_helps(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    new, fifo = str(tmp_path / "new"), str(tmp_path / "fifo")
    assert remedy(new, "write", []) == f"--allow-write={new}"
    assert remedy(new, "read", [str(tmp_path)]) == f"--allow-read={new}"
    assert remedy(new, "write", [str(tmp_path)]) == "this belongs to nexus itself and is never writable"
    assert remedy("/proc/self/mem", "read", []) == "devices and /proc are never shown to a program"
    assert remedy(fifo, "read", []) == "only files and folders are shown to a program"
