"""Tests of the checks in this folder: that each can fail. Run with `python3 -m unittest discover -s scripts`."""

import importlib.machinery
import importlib.util
import pathlib
import re
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
SCRIPTS = pathlib.Path(__file__).resolve().parent


def load(name: str):
    """A script as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(SCRIPTS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class CheckDocuments(unittest.TestCase):
    """scripts/check-documents"""

    def check(
        self, text: str, expected: list[str], name: str = "README.md", allowed_count: int = 0
    ) -> None:
        script = load("check-documents")
        with tempfile.TemporaryDirectory() as folder:
            repository = pathlib.Path(folder).resolve()
            for path in ("README.md", "core/src/lib.rs", "docs/guide.md", "docs/decisions/001-one.md"):
                (repository / path).parent.mkdir(parents=True, exist_ok=True)
                (repository / path).write_text("")
            document = repository / name
            document.write_text(text)
            self.assertIn(document, script.documents(repository))
            mistakes, allowed = script.mistakes_in(document, repository)
            self.assertEqual(mistakes, expected)
            self.assertEqual(len(allowed), allowed_count)

    def test_what_exists_is_accepted(self):
        self.check("[a](core/src/lib.rs), [b](docs/guide.md), `core/src/lib.rs`, `docs/`, `docs/*.md`, `./core`", [])
        self.check("[a](decisions/001-one.md), [b](../README.md), `core/src/lib.rs`", [], "docs/guide.md")

    def test_what_does_not_exist_is_named_with_its_line(self):
        self.check("x\n[a](core/gone.rs)", ["README.md:2: the link `core/gone.rs` leads nowhere"])
        self.check("`core/gone`", ["README.md:1: `core/gone` does not exist"])
        self.check("`gone/lib.rs`", ["README.md:1: `gone/lib.rs` does not exist"])
        self.check("`gone/`", ["README.md:1: `gone/` does not exist"])
        self.check("`GONE.md`", ["README.md:1: `GONE.md` does not exist"])
        self.check("`docs/*.rst`", ["README.md:1: `docs/*.rst` does not exist"])
        self.check("[`x`](gone.md)", ["README.md:1: the link `gone.md` leads nowhere"])
        self.check("[a](../../etc/hosts)", ["docs/guide.md:1: the link `../../etc/hosts` leads nowhere"], "docs/guide.md")

    def test_a_link_counts_from_the_documents_folder_alone(self):
        self.check("[a](core/src/lib.rs)", ["docs/guide.md:1: the link `core/src/lib.rs` leads nowhere"], "docs/guide.md")

    def test_what_is_no_path_of_the_repository_is_left_alone(self):
        self.check("[a](https://example.org/x.md#part) [c](mailto:a@b.c)", [])
        self.check("`/orders/{id}` `application/json` `target/x.rs` `.run/stack.json` `<name>.md` `GET /x.md`", [])
        self.check("`docs/decisions/NNN-title.md` `$HOME/a.md` `~/a.md` `picket.v1` `a.b.Service/Check` `https://x/y.md`", [])
        self.check("```\n`core/gone.rs` [a](gone.md)\n```\n", [])

    def test_code_after_a_fence_is_read_again(self):
        self.check("```\n```\n`core/gone.rs`", ["README.md:3: `core/gone.rs` does not exist"])

    def test_a_line_of_more_than_100_columns_is_named(self):
        told = "README.md:1: 101 columns, at most 100 are allowed"
        self.check("a " * 50, [])
        self.check("a " * 50 + "a", [told])
        self.check("| " + "a " * 49 + "|", [told])
        self.check("é " * 50 + "é", [told])

    def test_code_that_is_no_output_must_fit(self):
        told = "README.md:2: 101 columns, at most 100 are allowed"
        for language in ("", "sh", "yaml", "json"):
            self.check(f"```{language}\n" + "a " * 50 + "a\n```\n", [told])
        self.check("```console\n$ " + "a" * 99 + "\n```\n", [told])

    def test_a_line_that_cannot_be_broken_is_allowed_and_named(self):
        url = "https://example.org/" + "a" * 100
        for mark in ("", "- ", "  ", "1. ", "> "):
            self.check(f"{mark}{url}", [], allowed_count=1)
        self.check(f"see {url}", ["README.md:1: 124 columns, at most 100 are allowed"])
        self.check(f"```yaml\n  key: {url}\n```\n", [], allowed_count=1)
        told = "README.md:2: 127 columns, at most 100 are allowed"
        self.check(f"```yaml\n  a b: {url}\n```\n", [told])
        for language in ("text", "console"):
            self.check(f"```{language}\n" + "a " * 60 + "\n```\n", [], allowed_count=1)

    def test_an_item_of_the_code_that_is_not_defined_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            repository = pathlib.Path(folder).resolve()
            (repository / "core/src").mkdir(parents=True)
            (repository / "core/src/ledger.rs").write_text("pub struct Ledger;\nfn add() {}\n")
            document = repository / "a.md"
            document.write_text("`Ledger::add` `core::ledger` `serde::gone` `Ledger::gone` `Gone::add`")
            mistakes, _ = load("check-documents").mistakes_in(document, repository)
        told = [f"a.md:1: `{item}` is not defined" for item in ("Ledger::gone", "Gone::add")]
        self.assertEqual(mistakes, told)

    def test_a_decision_with_another_head_or_outside_the_index_is_named(self):
        script = load("check-documents")
        with tempfile.TemporaryDirectory() as folder:
            repository = pathlib.Path(folder).resolve()
            decisions = repository / "docs/decisions"
            decisions.mkdir(parents=True)
            good = "# 1. A\n\n- Status: accepted\n  for now\n- Date: 2026-12-01\n\nText\n"
            (decisions / "001-a.md").write_text(good)
            (decisions / "README.md").write_text("[1](001-a.md), [2](002-b.md)\n")
            self.assertEqual(script.mistakes_in_decisions(repository), [])
            for text in (good, good.replace("# 1", "# 2").replace("Date", "On"), "# 2. B\n\nAccepted.\n"):
                (decisions / "002-b.md").write_text(text)
                (told,) = script.mistakes_in_decisions(repository)
                self.assertTrue(told.startswith("docs/decisions/002-b.md:1: expected"), told)
            (decisions / "002-b.md").write_text(good.replace("# 1", "# 2"))
            (decisions / "README.md").write_text("[1](001-a.md)\n")
            told = ["docs/decisions/002-b.md:1: is not in the index of decisions"]
            self.assertEqual(script.mistakes_in_decisions(repository), told)

    def test_an_anchor_that_no_heading_has_is_named(self):
        self.check("# A `b` c-d, e\n## Two\n## Two\n[x](#a-b-c-d-e) [y](#two-1)", [])
        self.check("# One\n[x](#two)", ["README.md:2: the link `#two` leads nowhere"])
        self.check("```\n# One\n```\n[x](#one)", ["README.md:4: the link `#one` leads nowhere"])
        self.check("[x](docs/guide.md#a)", ["README.md:1: the link `docs/guide.md#a` leads nowhere"])
        self.check("[x](core/src/lib.rs#L7)", [])

    def test_a_module_of_a_code_map_that_does_not_exist_is_named(self):
        gone = "README.md:3: the module `gone` is not in core"
        self.check("### `core/`\n\n- `lib` and `gone`: x\n", [gone])
        self.check("### `core/`\n\n- `lib`: the `gone`\n- a `gone`: x\n", [])
        self.check("### `core/`\n## Next\n- `gone`: x\n", [])

    def test_markdown_of_every_folder_is_read_but_not_that_of_a_build(self):
        script = load("check-documents")
        with tempfile.TemporaryDirectory() as folder:
            repository = pathlib.Path(folder).resolve()
            for path in ("a/b/c.md", "fuzz/target/x.md", "target/x.md", ".tools/x.md"):
                (repository / path).parent.mkdir(parents=True, exist_ok=True)
                (repository / path).write_text("")
            self.assertEqual(script.documents(repository), [repository / "a/b/c.md"])


class RunTutorial(unittest.TestCase):
    """scripts/run-tutorial"""

    def setUp(self):
        self.script = load("run-tutorial")

    def test_commands_go_with_the_output_that_follows_and_skipped_blocks_do_not_run(self):
        page = (
            "```text\na picture\n```\n```sh skip\nmake\n```\n```sh\none\n```\n"
            "```text\n1\n```\n```yaml\na: b\n```\n```sh\ntwo\n```\n"
        )
        self.assertEqual(self.script.steps(page), [("one\n", "1\n"), ("two\n", "")])

    def test_output_differs_unless_each_line_matches(self):
        for expected, found in (("", ""), ("a\n", "a"), ("a…\nb", "a 1\nb\n"), ("{…}", "{1}")):
            self.assertFalse(self.script.differs(expected, found), (expected, found))
        for expected, found in (("a", ""), ("", "a"), ("a", "b"), ("a…", "b a"), ("a.", "ab")):
            self.assertTrue(self.script.differs(expected, found), (expected, found))

    def test_every_port_of_the_page_is_replaced(self):
        ports = dict(zip(self.script.PORTS, "abcde"))
        self.assertEqual(self.script.with_ports("8080 :9191/x 18080 10000", ports), "a :b/x 18080 e")
        page = self.script.PAGE.read_text(encoding="utf-8")
        for port in self.script.PORTS:
            self.assertIn(port, page)

    def test_the_shell_ends_at_the_first_command_that_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            code, output = self.script.run("echo 1\nfalse\necho 2\n", folder)
        self.assertEqual((code, output), (1, "1\n"))


class CheckCoreIsPure(unittest.TestCase):
    """scripts/check-core-is-pure"""

    def setUp(self):
        self.script = load("check-core-is-pure")

    def test_a_refused_crate_is_named_with_its_parent_at_any_depth(self):
        tree = "0picket-core v0.1.0 (/x)\n1serde v1.0.0\n1lru v0.16.4\n2tokio v1.0.0\n3mio v1.0.0 (*)\n"
        self.assertEqual(
            self.script.mistakes_in_tree(tree),
            ["picket-core depends on `mio` through `tokio`: it brings network I/O",
             "picket-core depends on `tokio` through `lru`: it brings an asynchronous runtime"],
        )

    def test_a_refused_name_in_the_code_is_named_with_its_line(self):
        for line in (
            "use std::fs;", "let s = std::net::TcpStream::connect(a);", "SystemTime::now()", "Instant::now()",
            "std::thread::spawn(f)", "std::env::var(n)", "OsRng", "println!(\"x\")",
            "use proxy_wasm::hostcalls;",
        ):
            found = self.script.mistakes_in_source("a.rs", f"//! Core.\n{line}\n")
            self.assertEqual(len(found), 1, line)
            self.assertTrue(found[0].startswith("a.rs:2: "), found[0])

    def test_comments_tests_and_pure_names_are_left_alone(self):
        for code in ("// std::fs is not used\n", "use std::net::IpAddr;\n", "use std::time::Duration;\n",
                     "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }\n", "env!(\"CARGO_PKG_VERSION\")\n"):
            self.assertEqual(self.script.mistakes_in_source("a.rs", code), [], code)


class CheckStructure(unittest.TestCase):
    """scripts/check-structure"""

    def setUp(self):
        self.script = load("check-structure")

    def crate(self, files: dict[str, str]):
        """A crate with these files beside its root."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return self.script.read_crate("c", "c", pathlib.Path(folder, "lib.rs"))

    def check(self, expected: list[set[str]], files: dict[str, str]) -> None:
        self.assertEqual(self.crate(files).cycles(), expected)

    def test_modules_that_use_each_other_are_a_cycle_however_they_name_each_other(self):
        root = {"lib.rs": "mod a;\nmod b;\nmod c;"}
        for a in ("use crate::b::B;", "use super::{b::B, c};", "use crate::{self as root, b};", "fn f() { crate::b::f() }",
                  "use super::b;\nfn f() { b::f() }", "pub(crate) use super::b::*;", "fn f(b: super::b::B) {}",
                  "mod inner { use super::super::b; }", "macro_rules! m { () => { $crate::b::f() } }"):
            self.check([{"a", "b"}], root | {"a.rs": a, "b.rs": "use crate::a::A;", "c.rs": ""})
        self.check([{"a", "b", "c"}],
                   root | {"a.rs": "use super::b;", "b.rs": "use super::c;", "c.rs": "use super::a;"})

    def test_a_name_of_the_parent_counts_as_the_module_that_defines_it(self):
        root = "mod a;\nmod b;\npub use a::A;\npub struct Own;"
        self.check([{"a", "b"}], {"lib.rs": root, "a.rs": "use super::b::B;", "b.rs": "use super::A;"})
        self.check([], {"lib.rs": root, "a.rs": "use super::b::B;", "b.rs": "use super::Own;"})

    def test_a_parent_and_its_children_may_use_each_other(self):
        self.check([], {"lib.rs": "mod a;", "a.rs": "mod b;\nmod c;\nuse b::B;\npub struct A;", "a/b.rs": "use super::A;",
                        "a/c.rs": "use super::b::B;"})
        self.check([{"a::b", "a::c"}], {"lib.rs": "mod a;", "a.rs": "mod b;\nmod c;", "a/b.rs": "use super::c::C;",
                                        "a/c.rs": "use super::b::B;"})

    def test_children_count_for_their_parents(self):
        self.check([{"a", "b"}], {"lib.rs": "mod a;\nmod b;", "a.rs": "mod c;", "a/c.rs": "use crate::b;",
                                  "b/mod.rs": "mod d { use crate::a::A; }"})

    def test_tests_comments_texts_and_other_crates_are_left_alone(self):
        for a in ("#[cfg(test)]\nmod tests { use crate::b::B; }", "#[cfg(test)]\n#[path = \"x\"]\nmod tests;",
                  "#[cfg(test)]\nuse crate::b::B;", "// use crate::b;", "/* /* */ use crate::b; */", 'const A: &str = "crate::b::f";',
                  'const A: &str = r#"use "crate::b;"#;', "const A: char = '\"'; // crate::b", "use other::b::B;", "fn f<'a>(x: &'a u8) {}"):
            self.check([], {"lib.rs": "mod a;\nmod b;", "a.rs": a, "b.rs": "use crate::a::A;"})

    def test_a_cycle_is_named_with_its_uses_unless_an_exception_holds_it(self):
        crate = self.crate({"lib.rs": "mod a;\nmod b;", "a.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"})
        self.assertEqual(self.script.mistakes_in_modules([crate], {}),
                         ["c: module cycle: a, b\n    a uses b\n    b uses a"])
        self.assertEqual(self.script.mistakes_in_modules([crate], {"c": [{"a", "b", "d"}]}), [])
        self.assertEqual(self.script.mistakes_in_modules([crate], {"c": [{"a", "b"}, {"d", "e"}], "gone": []}),
                         ["c: the exception for d, e is not needed any more: remove it",
                          "gone: the exception is of no crate: remove it"])

    def test_a_dependency_against_the_directions_is_named(self):
        package = self.script.Package("picket-core", "core", {"model", "proto"}, [], 0)
        mistakes = self.script.mistakes_in_dependencies
        self.assertEqual(mistakes([package], {"core": {"model"}}, {}),
                         ["core/Cargo.toml: depends on `proto`, expected only: model"])
        self.assertEqual(mistakes([package], {"core": {"model"}}, {"core": {"proto"}}), [])
        self.assertEqual(mistakes([package], {"core": {"model", "proto"}}, {"core": {"filter"}, "gone": set()}),
                         ["core/Cargo.toml: the exception for `filter` is not needed any more: remove it",
                          "gone: the exception is of no crate: remove it"])
        self.assertEqual(mistakes([package], {}, {}),
                         ["core: the crate `picket-core` has no line in ALLOWED of scripts/check-structure"])

    def test_the_directions_have_no_cycle(self):
        self.assertEqual(self.script.strong_components(self.script.ALLOWED), [])

    def test_two_public_types_of_one_name_are_named(self):
        crate = self.crate({"lib.rs": "mod a;\npub enum E {}\nstruct F;", "a.rs": "pub struct E<T>(T);\npub struct F;"})
        self.assertEqual(self.script.mistakes_in_names([crate], {}), ["c: `E` is a public type of each of a, the crate's root"])
        self.assertEqual(self.script.mistakes_in_names([crate], {"c": {"E"}}), [])
        self.assertEqual(self.script.mistakes_in_names([crate], {"c": {"E", "F"}}),
                         ["c: the exception for `F` is not needed any more: remove it"])

    def test_lines_of_tests_are_counted_apart(self):
        crate = self.crate({"lib.rs": "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n"})
        self.assertEqual([(module.lines, module.test_lines) for module in crate.modules.values()], [(2, 4)])

    def test_a_file_that_is_not_there_is_named(self):
        with self.assertRaisesRegex(self.script.SourceError, "the file of `mod a`"):
            self.crate({"lib.rs": "mod a;"})


class FetchTool(unittest.TestCase):
    """scripts/fetch-tool"""

    def setUp(self):
        self.script = load("fetch-tool")

    def check_prints(self, tool, prints: str, version: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            executable = pathlib.Path(folder, tool.executable or "envoy")
            executable.parent.mkdir(exist_ok=True)
            executable.write_text(f"#!/bin/sh\necho '{prints}'\n")
            executable.chmod(0o755)
            tool.check_runs(pathlib.Path(folder) if tool.executable else executable, version)

    def test_another_version_is_refused(self):
        for name, prints, version, others in (
            ("envoy", "envoy  version: abc/1.39.1/Clean/RELEASE/BoringSSL", "1.39.1", ("1.40.0", "1.39")),
            ("postgresql", "postgres (PostgreSQL) 18.6", "18.6.3", ("18.5.3", "18.66.0", "1.8.6")),
        ):
            tool = self.script.TOOLS[name]
            self.check_prints(tool, prints, version)
            for other in others:
                with self.assertRaisesRegex(self.script.FetchError, "expected `.*, found: "):
                    self.check_prints(tool, prints, other)

    def test_what_does_not_run_is_refused(self):
        for tool in self.script.TOOLS.values():
            with self.assertRaisesRegex(self.script.FetchError, "does not run"):
                tool.check_runs(pathlib.Path("absent"), "1.40.0")

    def test_every_requirement_has_a_version_and_a_hash_for_each_processor(self):
        for tool in self.script.TOOLS.values():
            requirements = tool.requirements.read_text()
            self.assertRegex(tool.wanted_version(requirements), r"^\d+\.\d+\.\d+$")
            self.assertEqual(len(set(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", requirements))), 2)
            with self.assertRaises(self.script.FetchError):
                tool.wanted_version(f"{tool.package}\n")


class TrimModule(unittest.TestCase):
    """scripts/trim-module"""

    def setUp(self):
        self.script = load("trim-module")

    def module(self, exports: list[str]) -> bytes:
        """A module that exports functions, between two sections that are left alone."""
        number = self.script.written_number
        entries = [number(len(name)) + name.encode() + b"\0" + number(index) for index, name in enumerate(exports)]
        section = number(len(entries)) + b"".join(entries)
        before, after = b"\x01\x01\0", b"\0\x03\x01xy"
        return self.script.HEADER + before + b"\x07" + number(len(section)) + section + after

    def test_what_is_not_needed_is_taken_out_and_the_rest_stays_as_it_is(self):
        needed = sorted(self.script.NEEDED)
        whole = self.module(needed)
        self.assertEqual(self.script.trimmed(self.module(needed + ["proxy_on_log"])), whole)
        self.assertEqual(self.script.trimmed(whole), whole)

    def test_a_module_without_a_needed_callback_is_refused(self):
        for name in self.script.NEEDED:
            with self.assertRaisesRegex(self.script.ModuleError, f"does not export {name}"):
                self.script.trimmed(self.module(sorted(self.script.NEEDED - {name})))

    def test_what_is_no_module_is_refused(self):
        whole = self.module(sorted(self.script.NEEDED))
        for bytes_ in (b"", b"ELF", self.script.HEADER, whole[:-2], whole[:14]):
            with self.assertRaises(self.script.ModuleError):
                self.script.trimmed(bytes_)


class Fuzz(unittest.TestCase):
    """scripts/fuzz"""

    def setUp(self):
        self.script = load("fuzz")

    def test_each_target_is_built_and_has_seeds(self):
        targets = self.script.targets()
        manifest = (self.script.FUZZ / "Cargo.toml").read_text()
        self.assertIn("token", targets)
        for target in targets:
            self.assertIn(f'path = "fuzz_targets/{target}.rs"', manifest)
            self.assertTrue(any((self.script.FUZZ / "seeds" / target).iterdir()), target)

    def test_a_tool_that_is_missing_or_fails_is_named(self):
        tools = [(["no-such-tool"], "one"), (["false"], "two"), (["true"], "three")]
        self.assertEqual(self.script.missing(tools), ["one", "two"])

    def test_the_last_line_about_coverage_is_the_summary(self):
        log = (
            "#12\tINITED cov: 7 ft: 8 corp: 1/1b exec/s: 0 rss: 30Mb\n"
            "#90\tREDUCE cov: 9 ft: 10 corp: 1/1b exec/s: 0 rss: 30Mb L: 1/1 MS: 1 EraseBytes-\n"
            "#99\tDONE   cov: 9 ft: 11 corp: 1/1b lim: 4 exec/s: 0 rss: 30Mb\n"
        )
        self.assertEqual(self.script.summary("token", log), "token: 99 runs, cov 9, ft 11")
        self.assertEqual(self.script.summary("token", "error: it does not build\n"), "token: did not run")


if __name__ == "__main__":
    unittest.main()
