use super::*;

use std::fs::File;
use std::io::{PipeReader, Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;

use rustix::fs::fcntl_getfl;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, OptionalActions, tcflow, tcgetattr, tcsetattr};

/// A pseudo-terminal that changes nothing that is written: its two ends.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master = openpt(flags).expect("/dev/ptmx");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("ours");
    let name = ptsname(&master, Vec::new()).expect("named");
    let slave = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
    let mut modes = tcgetattr(&slave).expect("a terminal");
    modes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &modes).expect("set");
    rustix::io::ioctl_fionbio(&master, true).expect("set");
    (File::from(master), slave)
}

fn pipe() -> (PipeReader, io::PipeWriter) {
    let (reader, writer) = io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&reader, true).expect("set");
    (reader, writer)
}

fn say(log: &mut Log, number: usize) {
    // Of many lengths, so that now and then one does not fit into what is left.
    log.line(Line::of(format_args!("line {number} {}", "-".repeat(number * 7 % 300))));
}

/// Says more than `reader` takes, in turn with some reading, until all was taken; then every line is
/// whole, in order, and either there or counted, where it is missing.
#[track_caller]
fn nothing_is_garbled(mut log: Log, mut reader: impl Read) {
    let (mut text, mut bytes) = (Vec::new(), [0; 1000]);
    let mut said = 0;
    for turn in 0..600 {
        // The reader falls behind, then catches up.
        for _ in 0..turn % 40 {
            say(&mut log, said);
            said += 1;
        }
        if let Ok(n) = reader.read(&mut bytes) {
            text.extend_from_slice(&bytes[..n]);
        }
    }
    loop {
        let even = log.catch_up();
        match reader.read(&mut bytes) {
            Ok(n) => text.extend_from_slice(&bytes[..n]),
            Err(_) if even => break,
            Err(_) => {}
        }
    }
    assert!(log.lost > 0, "the reader kept up: nothing was tested");
    let text = String::from_utf8(text).expect("ASCII");
    assert!(text.ends_with('\n'), "a line without an end");
    let mut next = 0;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("line ") {
            let (number, dashes) = rest.split_once(' ').expect("whole");
            let number: usize = number.parse().expect("whole");
            assert_eq!((number, dashes.len()), (next, number * 7 % 300), "{line}");
            next += 1;
        } else {
            let words: Vec<_> = line.split(' ').collect();
            let ["barrierd:", count, "line" | "lines", "was" | "were", "lost", ..] = words[..]
            else {
                panic!("garbled: {line}")
            };
            next += count.parse::<usize>().expect("a number");
        }
    }
    assert_eq!(next, said);
}

#[test]
fn b6_a_pipe() {
    let (reader, writer) = pipe();
    let log = Log::on(writer.as_fd()).expect("open");
    assert!(matches!(log.how, How::Plain));
    nothing_is_garbled(log, reader);
    let flags = fcntl_getfl(&writer).expect("open");
    assert!(!flags.contains(OFlags::NONBLOCK), "others that have this pipe did not ask for it");
}

#[test]
fn b6_a_pipe_that_may_not_be_opened_again() {
    let (reader, writer) = pipe();
    let mut log = Log::on(writer.as_fd()).expect("open");
    (log.fd, log.how) = (writer.into(), How::Asked(Errno::ACCESS));
    nothing_is_garbled(log, reader);
}

#[test]
fn b6_a_terminal() {
    let (master, slave) = terminal();
    let log = Log::on(slave.as_fd()).expect("open");
    assert!(matches!(log.how, How::Plain));
    nothing_is_garbled(log, master);
    let flags = fcntl_getfl(&slave).expect("open");
    assert!(!flags.contains(OFlags::NONBLOCK), "the shell did not ask for it");
}

#[test]
fn b6_a_stopped_terminal() {
    let (mut master, slave) = terminal();
    let opened = Log::on(slave.as_fd()).expect("open");
    let asked = Log {
        fd: slave.try_clone().expect("a descriptor"),
        how: How::Asked(Errno::ACCESS),
        ..Log::on(slave.as_fd()).expect("open")
    };
    for mut log in [opened, asked] {
        tcflow(&slave, Action::OOff).expect("a terminal");
        (0..3).for_each(|number| say(&mut log, number));
        assert_eq!(log.lost, 3);
        tcflow(&slave, Action::OOn).expect("a terminal");
        say(&mut log, 3);
        let mut bytes = [0; 4096];
        let mut text = String::new();
        while let Ok(n) = master.read(&mut bytes) {
            text.push_str(std::str::from_utf8(&bytes[..n]).expect("ASCII"));
        }
        let words = "barrierd: 3 lines were lost here: this log was not read in time\nline 3 -";
        assert!(text.starts_with(words), "{text}");
    }
}

#[test]
fn b6_a_socket() {
    let (reader, writer) = UnixStream::pair().expect("a pair");
    reader.set_nonblocking(true).expect("set");
    let log = Log::on(writer.as_fd()).expect("open");
    assert!(matches!(log.how, How::Socket));
    nothing_is_garbled(log, reader);
}

#[test]
fn b6_a_file_goes_on_where_others_write() {
    let mut file = tempfile::tempfile().expect("a file");
    let mut log = Log::on(file.as_fd()).expect("open");
    file.write_all(b"before\n").expect("written");
    say(&mut log, 0);
    file.write_all(b"after\n").expect("written");
    file.seek(SeekFrom::Start(0)).expect("a file");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("ASCII");
    assert_eq!(text, "before\nline 0 \nafter\n");
    assert_eq!(log.lost, 0);
}

#[test]
fn b6_what_takes_nothing_holds_nothing_up() {
    let full = File::options().write(true).open("/dev/full").expect("there");
    let (reader, writer) = pipe();
    drop(reader);
    let (_, socket) = UnixStream::pair().expect("a pair");
    for fd in [full.as_fd(), writer.as_fd(), socket.as_fd()] {
        let mut log = Log::on(fd).expect("open");
        (0..3).for_each(|number| say(&mut log, number));
        assert_eq!(log.lost, 3);
    }
}

#[test]
fn a_line_too_long_is_cut_and_shows_it() {
    let long = "x".repeat(LONGEST);
    for len in [0, 1, LONGEST - 2, LONGEST - 1] {
        let line = Line::of(format_args!("{}", &long[..len]));
        assert_eq!(line.bytes(), format!("{}\n", &long[..len]).as_bytes());
    }
    let line = Line::of(format_args!("{long}, and more"));
    assert_eq!(line.bytes().len(), LONGEST);
    assert!(line.bytes().ends_with(b"x...\n"));
}
