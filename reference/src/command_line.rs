//! The command line of operators.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::Page;
use crate::markdown::{anchor, wrapped};

const INTRODUCTION: &str = "\
The commands of `picket`, with every argument and option. `picket COMMAND --help` says the same.";

/// The headings of options that many commands share. They are written once.
const SHARED: [(&str, &str); 2] = [
    ("Output", "Options of every command."),
    (
        "Policy service",
        "Options of commands that call a running policy service.",
    ),
];

pub(crate) fn page() -> Page {
    let mut picket = picket::command_line();
    picket.build();
    let exit_codes = picket.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut body = format!("{}{}", prose(&exit_codes), contents(&picket));
    for (heading, explanation) in SHARED {
        let owner = find(&picket, &|command| {
            options(command, Some(heading)).any(Arg::is_required_set)
        });
        let owner = owner.or_else(|| find(&picket, &|command| options(command, Some(heading)).next().is_some()));
        let arguments: String = owner
            .into_iter()
            .flat_map(|owner| options(owner, Some(heading)))
            .map(item)
            .collect();
        let _ = write!(
            body,
            "## Options: {heading}\n\n{explanation}\n\n{}\n",
            wrapped(&arguments)
        );
    }
    for command in subcommands(&picket) {
        body.push_str(&section(command, "picket", 2));
    }
    let source = "the commands in `cli/src/command`";
    Page::new("command-line.md", "Command line", source, INTRODUCTION, body.trim_end())
}

fn contents(picket: &Command) -> String {
    let commands = subcommands(picket).map(|command| {
        let name = format!("picket {}", command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        format!("- [`{name}`](#{}): {about}\n", anchor(&name))
    });
    format!("{}\n", wrapped(&commands.collect::<String>()))
}

/// A command, and the commands in it.
fn section(command: &Command, above: &str, level: usize) -> String {
    let name = format!("{above} {}", command.get_name());
    let marks = "#".repeat(level);
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{marks} `{name}`\n\n{}", prose(&about));
    let mut inner = subcommands(command).peekable();
    if inner.peek().is_none() {
        text.push_str(&usage(command, &name));
        text.push_str(&arguments(command));
        text.push_str(&examples(command));
    }
    inner.for_each(|inner| text.push_str(&section(inner, &name, level + 1)));
    text
}

fn usage(command: &Command, name: &str) -> String {
    let mut line = name.to_owned();
    if options(command, None).next().is_some() {
        line.push_str(" [OPTIONS]");
    }
    for argument in command.get_positionals() {
        let (open, close) = if argument.is_required_set() {
            ("<", ">")
        } else {
            ("[", "]")
        };
        let more = if is_repeated(argument) { "..." } else { "" };
        let _ = write!(line, " {open}{}{close}{more}", value_names(argument));
    }
    format!("```text\n{line}\n```\n\n")
}

/// The arguments that are this command's own, and which shared options it has.
fn arguments(command: &Command) -> String {
    let own: String = command
        .get_positionals()
        .chain(options(command, None))
        .map(item)
        .collect();
    let mut text = match own.is_empty() {
        true => String::new(),
        false => format!("{}\n", wrapped(&own)),
    };
    for (heading, _) in SHARED {
        let mut shared = options(command, Some(heading))
            .filter(|argument| !argument.is_global_set())
            .peekable();
        if shared.peek().is_some() {
            let optional = if shared.any(Arg::is_required_set) {
                ""
            } else {
                ", none of them required"
            };
            let anchor = anchor(&format!("Options: {heading}"));
            let _ = write!(
                text,
                "It has the [options of the policy service](#{anchor}){optional}.\n\n"
            );
        }
    }
    text
}

/// The options below a heading; `None`: those of no shared heading.
fn options<'c>(command: &'c Command, heading: Option<&'c str>) -> impl Iterator<Item = &'c Arg> {
    command.get_opts().chain(flags(command)).filter(move |argument| {
        let stands_below = argument.get_help_heading();
        match heading {
            Some(heading) => stands_below == Some(heading),
            None => !SHARED.iter().any(|(shared, _)| stands_below == Some(shared)),
        }
    })
}

/// The options without a value, but for those that every program has.
fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    let arguments = command.get_arguments();
    arguments.filter(|argument| {
        let is_flag = !argument.is_positional() && !argument.get_action().takes_values();
        is_flag && !matches!(argument.get_id().as_str(), "help" | "version")
    })
}

/// An argument as an item of a list.
fn item(argument: &Arg) -> String {
    let mut names: Vec<String> = Vec::new();
    let value = match argument.get_action().takes_values() {
        true => format!(" {}", value_names(argument)),
        false => String::new(),
    };
    names.extend(argument.get_short().map(|short| format!("`-{short}{value}`")));
    names.extend(argument.get_long().map(|long| format!("`--{long}{value}`")));
    if names.is_empty() {
        names.push(format!("`{}`", value_names(argument)));
    }
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut text = format!("- {}: {}", names.join(", "), sentences(&help.replace('\n', " ")));
    if argument.is_required_set() {
        text.push_str(" Required.");
    }
    if is_repeated(argument) {
        text.push_str(" May be given several times.");
    }
    let values: Vec<_> = argument.get_possible_values();
    if argument.get_action().takes_values() && !values.is_empty() {
        let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        let _ = write!(text, " One of {}.", values.join(", "));
    }
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(text, " Default: `{}`.", defaults.join("`, `"));
    }
    text.push('\n');
    text
}

fn is_repeated(argument: &Arg) -> bool {
    let takes_many = argument.get_num_args().is_some_and(|count| count.max_values() > 1);
    takes_many || matches!(argument.get_action(), clap::ArgAction::Append)
}

fn value_names(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
    match names.is_empty() {
        true => argument.get_id().as_str().to_uppercase(),
        false => names.join(" "),
    }
}

/// What stands behind the options in the help: examples.
fn examples(command: &Command) -> String {
    let text = command
        .get_after_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    match text.split_once("Examples:\n") {
        None => String::new(),
        Some((_, examples)) => format!("```text\n{}\n```\n\n", without_indentation(examples.trim_end())),
    }
}

fn without_indentation(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line))
        .collect();
    lines.join("\n")
}

/// The text of a help: indented lines stay as they are.
fn prose(help: &str) -> String {
    let mut text = String::new();
    for paragraph in help.split("\n\n") {
        let (table, words): (Vec<&str>, Vec<&str>) = paragraph.lines().partition(|line| line.starts_with("  "));
        let _ = writeln!(text, "{}", wrapped(&sentences(&words.join("\n"))));
        if !table.is_empty() {
            let _ = write!(text, "```text\n{}\n```\n\n", without_indentation(&table.join("\n")));
        }
    }
    text
}

/// The help of an argument has no full stop, and neither has the first line of a command's.
fn sentences(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| match paragraph.trim_end() {
        whole if whole.ends_with(['.', ':', '?']) || whole.is_empty() => whole.to_owned(),
        without => format!("{without}."),
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    let inner = command.get_subcommands();
    inner.filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
}

/// The first command, of this one and those in it, for which this is so.
fn find<'c>(command: &'c Command, is_it: &dyn Fn(&Command) -> bool) -> Option<&'c Command> {
    if is_it(command) {
        return Some(command);
    }
    subcommands(command).find_map(|inner| find(inner, is_it))
}
