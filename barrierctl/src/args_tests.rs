//! What the command line means, and what is refused in which words.

use super::*;

fn parse(args: &[&str]) -> Result<Command, String> {
    super::parse(args.iter().map(OsString::from))
}

fn wait(by: By, ms: u64) -> Command {
    let how = Wait { by, timeout: Duration::from_millis(ms), json: false };
    Command::Wait { file: abi::DEFAULT_PATH.into(), how }
}

#[test]
fn verbs_and_their_options_in_any_order() {
    let file = PathBuf::from(abi::DEFAULT_PATH);
    assert_eq!(parse(&["status"]), Ok(Command::Status { file: file.clone(), json: false }));
    assert_eq!(parse(&["--json", "doctor"]), Ok(Command::Doctor { file, json: true }));
    assert_eq!(parse(&["wait"]), Ok(wait(By::Default, 1_000)));
    assert_eq!(parse(&["--timeout-ms", "7", "wait", "--by", "ns"]), Ok(wait(By::Ns, 7)));
    assert_eq!(parse(&["wait", "--by=vtime", "--timeout-ms=0"]), Ok(wait(By::Vtime, 0)));
    assert_eq!(parse(&["wait", "--by=ns", "--by=expedited"]), Ok(wait(By::Expedited, 1_000)));
    let file = PathBuf::from("/x=y");
    assert_eq!(parse(&["metrics", "--file", "/x=y"]), Ok(Command::Metrics { file }));
}

#[test]
fn a_region_is_named_after_its_verb() {
    let of = |region: &str, owner, json| {
        let file = PathBuf::from(abi::DEFAULT_PATH);
        Ok(Command::Shared { region: region.into(), owner, file, json })
    };
    let shared = |region: &str, json| of(region, None, json);
    for (uid, owner) in [("0", 0), ("1000", 1000), ("4294967294", u32::MAX - 1)] {
        assert_eq!(parse(&["shared", "/x", "--owner", uid]), of("/x", Some(owner), false));
    }
    assert_eq!(parse(&["shared", "/x"]), shared("/x", false));
    assert_eq!(parse(&["--json", "shared", "/x"]), shared("/x", true));
    assert_eq!(parse(&["shared", "--json", "status"]), shared("status", true));
    for (args, words) in [
        (&["shared"][..], "shared needs a path: barrierctl shared REGION"),
        (&["/x", "shared"], "don't know what to do with \"/x\""),
        (&["shared", "/x", "/y"], "don't know what to do with \"/y\""),
        (&["shared", "/x", "status"], "a second verb"),
        (&["shared", "/x", "--owner", "root"], "--owner needs a whole number from 0 to"),
        (&["shared", "/x", "--owner", "4294967295"], "--owner needs a whole number from 0 to"),
        (&["status", "--owner", "0"], "status takes no --owner, only shared does"),
    ] {
        let said = parse(args).expect_err("refused");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert!(matches!(parse(&["shared", "--help"]), Ok(Command::Print(_))));
}

#[test]
fn one_name_means_each_verb_its_own() {
    let how = |args: &[&str]| match parse(args) {
        Ok(Command::Watch { how, .. }) => how,
        other => panic!("{other:?}"),
    };
    assert_eq!(how(&["watch"]).count, None);
    assert_eq!(how(&["watch", "--count", "0"]).count, None);
    assert_eq!(how(&["--count", "3", "watch"]).count, Some(3));
    assert_eq!(how(&["watch", "--once"]).count, Some(1));
    assert_eq!(how(&["watch"]).interval, Duration::from_millis(500));
    assert!(!how(&["watch", "--no-color"]).color && how(&["watch"]).color);
    let Ok(Command::Compare { how, .. }) = parse(&["compare", "-q"]) else { panic!("refused") };
    assert_eq!((how.rounds, how.load, how.quiet, how.json), (100, 1, true, false));
    assert!(parse(&["compare", "--count", "0"]).is_err());
}

#[test]
fn every_verb_is_known_and_takes_what_the_table_says() {
    for verb in VERBS {
        for option in OPTIONS.iter().filter(|o| !matches!(o.long, "help" | "version")) {
            let taken = OPTIONS.iter().any(|o| {
                o.long == option.long && (o.verbs.is_empty() || o.verbs.contains(&verb.name))
            });
            let long = format!("--{}", option.long);
            let parse_with = |value: Option<&str>| {
                let words = [Some(verb.name), verb.operand, Some(&long), value];
                parse(&words.into_iter().flatten().collect::<Vec<_>>())
            };
            let parsed = match option.takes {
                Takes::Nothing => parse_with(None),
                Takes::Path => parse_with(Some("/x")),
                Takes::Number { most, .. } => parse_with(Some(&most.to_string())),
                Takes::OneOf { words, .. } => parse_with(Some(words[0].0)),
            };
            assert_eq!(parsed.is_ok(), taken, "{} {long}: {parsed:?}", verb.name);
        }
    }
}

#[test]
fn no_verb_has_two_options_of_one_name_and_names_agree_on_values() {
    for (i, one) in OPTIONS.iter().enumerate() {
        for other in OPTIONS[i + 1..].iter().filter(|other| other.long == one.long) {
            assert!(!one.verbs.is_empty() && !other.verbs.is_empty(), "{}", one.long);
            assert!(!one.verbs.iter().any(|verb| other.verbs.contains(verb)), "{}", one.long);
            assert_eq!(one.value().is_some(), other.value().is_some(), "{}", one.long);
        }
        for verb in one.verbs {
            assert!(VERBS.iter().any(|v| v.name == *verb), "{verb}");
        }
    }
}

#[test]
fn bad_input_is_refused_with_what_to_do() {
    for (args, words) in [
        (&[][..], "say what to do: status, watch"),
        (&["jump"], "don't know what to do with \"jump\": the verbs are status, watch, wait"),
        (&["stats"], "did you mean status?"),
        (&["watch", "--intervall-ms", "5"], "did you mean --interval-ms?"),
        (&["wait", "--timeout", "5"], "did you mean --timeout-ms?"),
        (&["status", "wait"], "a second verb"),
        (
            &["status", "--timeout-ms", "5"],
            "status takes no --timeout-ms, only wait and compare do",
        ),
        (&["wait", "--timeout-ms", "-1"], "a whole number from 0 to 86400000, not \"-1\""),
        (&["wait", "--timeout-ms", ""], "a whole number"),
        (&["wait", "--timeout-ms", "99999999999999999999"], "a whole number"),
        (&["watch", "--interval-ms", "1"], "from 50 to 60000"),
        (&["compare", "--load", "1e3"], "a whole number"),
        (&["wait", "--by", "luck"], "one of ns, vtime, expedited, not \"luck\""),
        (&["wait", "--by"], "--by needs one of ns, vtime, expedited"),
        (&["status", "--json=yes"], "--json takes no value"),
        (&["status", "--file", ""], "needs a path, not nothing"),
        (&["status", "--file"], "--file needs a path"),
        (&["status", "-x"], "don't know what to do with \"-x\""),
        (&["status", "--"], "don't know"),
    ] {
        let said = parse(args).expect_err("refused");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![0xff, 0xfe]);
    assert!(super::parse([odd].into_iter()).is_err());
}
