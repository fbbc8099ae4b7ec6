//! Writes barrierctl's manual page and the shells' completions, from the table of its command line.
//!
//! For `scripts/deb.sh`: `cargo run --example barrierctl_manual -- DIRECTORY`. Nothing of it is kept in the
//! repository, so nothing can be out of date. The program parses by that table and does without clap; here the
//! table becomes a clap command.

use std::fs;
use std::io;
use std::path::PathBuf;

use barrierctl::usage::{ABOUT, EXITS, OPTIONS, Opt, Takes, VERBS};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::{Shell, generate_to};

fn main() -> io::Result<()> {
    let to = std::env::args_os().nth(1).map(PathBuf::from);
    let to = to.ok_or_else(|| io::Error::other("usage: barrierctl_manual DIRECTORY"))?;
    fs::create_dir_all(&to)?;
    fs::write(to.join("barrierctl.1"), barrierctl_page())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut barrierctl(), "barrierctl", &to)?;
    }
    Ok(())
}

/// The manual page of the table. clap_mangen's would name a page for each verb.
fn barrierctl_page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH barrierctl 1 \"\" \"barrierctl {version}\" \"User Commands\"\n");
    page += &format!(".SH NAME\nbarrierctl \\- {}\n.SH SYNOPSIS\n", roff(ABOUT));
    for verb in VERBS {
        let operand = verb.operand.map(|name| format!(" {name}")).unwrap_or_default();
        page += &format!("\\fBbarrierctl {}\\fR{operand} [\\fB\\-\\-file\\fR PATH]", verb.name);
        for option in OPTIONS.iter().filter(|option| option.verbs.contains(&verb.name)) {
            page += &format!(" [{}]", roff_option(option));
        }
        page += "\n.br\n";
    }
    page += ".SH DESCRIPTION\nIt reads the daemon's public file (and \\fBshared\\fR a region). That takes no privilege, and costs \
             the daemon nothing but what \\fBwait\\fR, \\fBcompare\\fR and \\fBdoctor\\fR ask it for.\n";
    let entry = |name: &str, about: &str| format!(".TP\n{name}\n{}.\n", roff(about));
    page += ".SH VERBS\n";
    for verb in VERBS {
        page += &entry(&format!("\\fB{}\\fR", verb.name), verb.about);
        page += &format!(".IP\n{}\n", roff(verb.more));
    }
    page += ".SH OPTIONS\n";
    for option in OPTIONS {
        let whose = match option.verbs {
            [] => option.text(),
            verbs => format!("{}: {}", verbs.join(", "), option.text()),
        };
        page += &entry(&roff_option(option), &whose);
        if let Takes::Number { least, most, .. } = option.takes {
            page += &format!("From {least} to {most}.\n");
        }
    }
    page += ".SH EXIT STATUS\n";
    for (status, about) in EXITS {
        page += &entry(&status.to_string(), about);
    }
    page += ".SH ENVIRONMENT\n";
    page += &entry("NO_COLOR", "if it holds anything, watch uses no colour");
    page += &entry(
        "LC_ALL, LC_CTYPE, LANG",
        "the first that is set decides whether watch and \
                    compare draw with blocks (UTF-8) or with ASCII",
    );
    page += &entry("COLUMNS, LINES", "the size of a frame where there is no terminal to ask");
    page += ".SH EXAMPLES\n";
    for verb in VERBS {
        let (command, what) = verb.example;
        page += &entry(&format!("\\fB{}\\fR", roff(command)), what);
    }
    page + ".SH SEE ALSO\n.BR barrierd (8)\n"
}

/// Text as roff takes it: hyphens as they are typed.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn roff_option(option: &Opt) -> String {
    let short = option.short.map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
    let value = option.value().map(|value| format!(" {value}")).unwrap_or_default();
    format!("{short}\\fB\\-\\-{}\\fR{value}", roff(option.long))
}

/// barrierctl's table as a clap command, for the completions.
fn barrierctl() -> Command {
    let command = Command::new("barrierctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .disable_help_subcommand(true)
        .subcommand_required(true);
    let common =
        OPTIONS.iter().filter(|option| option.verbs.is_empty() && option.value().is_some());
    let command = command.args(common.map(|option| arg(option).global(true)));
    command.subcommands(VERBS.iter().map(|verb| {
        let own = OPTIONS.iter().filter(|option| option.verbs.contains(&verb.name));
        let operand = verb.operand.map(|name| {
            Arg::new("operand").value_name(name).required(true).value_hint(ValueHint::FilePath)
        });
        Command::new(verb.name).about(verb.about).args(own.map(arg)).args(operand)
    }))
}

/// clap has `--help` and `--version` of its own, with these names.
fn arg(option: &Opt) -> Arg {
    let arg = Arg::new(option.long).long(option.long).help(option.text());
    let arg = match option.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match option.takes {
        Takes::Nothing => arg.action(ArgAction::SetTrue),
        Takes::Path => arg.value_name("PATH").value_hint(ValueHint::FilePath),
        Takes::Number { name, .. } => arg.value_name(name),
        Takes::OneOf { name, words } => {
            let words = words.iter().map(|(word, about)| PossibleValue::new(*word).help(*about));
            arg.value_name(name).value_parser(PossibleValuesParser::new(words))
        }
    }
}
