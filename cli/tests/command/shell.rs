//! How the command behaves in a shell: help, colour, exit codes, closed pipes.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::support::{command, keys, picket, text};

/// The commands below `words`, as the help lists them.
fn listed_commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

fn check_help(words: &[&str]) -> usize {
    let answer = picket(&[words, &["--help"]].concat());
    answer.expect(0);
    assert!(answer.stdout.contains("Usage: picket"), "{words:?}");
    assert!(!answer.stdout.contains('\u{1b}'), "{words:?}: colour in a pipe");
    let inner = listed_commands(&answer.stdout);
    if inner.is_empty() {
        let call = format!("picket {}", words.join(" "));
        let examples = answer.stdout.split_once("Examples:").map(|(_, examples)| examples);
        assert!(
            examples.is_some_and(|text| text.contains(&call)),
            "{words:?}: no example"
        );
    }
    let below: usize = inner
        .iter()
        .map(|name| check_help(&[words, &[name.as_str()]].concat()))
        .sum();
    1 + below
}

#[test]
fn every_command_teaches_itself() {
    assert!(check_help(&[]) >= 6);
}

#[test]
fn the_help_documents_the_exit_codes() {
    for flag in ["--help", "-h"] {
        let answer = picket(&[flag]);
        answer.expect(0);
        for code in ["  0  ", "  1  ", "  2  ", "  3  "] {
            assert!(answer.stdout.contains(code), "{flag}: {code}");
        }
    }
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_nothing_on_standard_output() {
    for arguments in [&[][..], &["frobnicate"], &["jwks"], &["jwks", "--output", "yaml", "a"]] {
        let answer = picket(arguments);
        answer.expect(2);
        assert_eq!(answer.stdout, "");
        assert!(
            answer.stderr.contains("Usage") || answer.stderr.contains("--help"),
            "{}",
            answer.stderr
        );
    }
}

#[test]
fn colour_is_used_only_where_it_was_asked_for() {
    let (_folder, directory) = keys();
    let absent = directory.join("absent");
    let error = |color: &[&str]| picket(&[&["jwks", text(&absent)], color].concat()).stderr;
    assert!(error(&["--color", "always"]).starts_with("\u{1b}[1;31merror:\u{1b}[0m "));
    assert!(error(&["--color", "never"]).starts_with("error: "));
    assert!(error(&[]).starts_with("error: "), "a pipe is no terminal");
    assert!(picket(&["--help", "--color", "always"]).stdout.contains('\u{1b}'));
    assert!(!picket(&["--help", "--color=never"]).stdout.contains('\u{1b}'));
}

#[test]
fn a_reader_that_has_gone_away_is_not_an_error() {
    let (_folder, directory) = keys();
    let key = directory.join("token-rs256-key.pem");
    for arguments in [
        &["--help"][..],
        &["jwks", text(&key)],
        &["jwks", text(&key), "--output", "json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}: {said}");
        assert_eq!(said, "");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let (_folder, directory) = keys();
    let key = directory.join("token-rs256-key.pem");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!((&full).write_all(b"x").is_err(), "this device refuses every byte");
    let output = command(&["jwks", text(&key)]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"));
}
