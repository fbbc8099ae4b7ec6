//! The user that the daemon goes on as once it is set up.
//!
//! Owns the choice, and the reading of /etc/passwd. Knows nothing of how a process changes users.
//!
//! /etc/passwd is read as text, not through the C library: its name services open sockets and load
//! other people's libraries, and this process is privileged.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{getegid, geteuid};

/// The user of that name, if there is one, when none is named.
pub const DEFAULT_NAME: &str = "barrierd";

/// User and group when there is no user [`DEFAULT_NAME`]: of those that nobody hands out, since
/// whoever has the same may signal the daemon. systemd gives 61184 to 65519 to services for their
/// lifetime (DynamicUser), 60001 to 60577 to home directories and containers, 524288 and above to
/// containers; shadow's subordinate ids begin at 100000; Debian packages get up to 64999. What is left
/// below 65536, and so is there in containers too, is 65520 to 65533, which systemd's table calls unused
/// and Debian's policy reserved; of these 65532 and 65533 serve container images as "nonroot" and
/// "nogroup".
pub const DEFAULT_ID: u32 = 65_523;

/// nobody, and nogroup. Shared by all who want to own nothing, so they would be able to signal the
/// daemon, and it them.
const NOBODY: u32 = 65_534;

const PASSWD: &str = "/etc/passwd";

/// A user and its group, by number. Neither is root or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Account {
    /// The account for this process: the one asked for (a name, `UID` or `UID:GID`); else, for
    /// root, [`DEFAULT_NAME`]'s or [`DEFAULT_ID`]; else the one that it has.
    ///
    /// # Errors
    ///
    /// There is no such user, or it is root or nobody.
    pub fn choose(asked: Option<&str>) -> Result<Self> {
        let (own_uid, own_gid) = (geteuid().as_raw(), getegid().as_raw());
        if asked.is_none() && own_uid != 0 {
            return Self { uid: own_uid, gid: own_gid }.checked("this process's user");
        }
        // A system without users is no reason to stop: numbers do.
        let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
        Self::look_up(asked, &passwd)
    }

    fn look_up(asked: Option<&str>, passwd: &str) -> Result<Self> {
        let Some(name) = asked else {
            let default = Self { uid: DEFAULT_ID, gid: DEFAULT_ID };
            return find(passwd, DEFAULT_NAME).unwrap_or(Ok(default))?.checked(DEFAULT_NAME);
        };
        let (uid, gid) = name.split_once(':').unwrap_or((name, name));
        if let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) {
            return Self { uid, gid }.checked(name);
        }
        match find(passwd, name) {
            Some(found) => found?.checked(name),
            None => bail!(
                "there is no user `{name}` in {PASSWD}: make one (`useradd --system --shell \
                 /usr/sbin/nologin {name}`), or give numbers as --user UID:GID"
            ),
        }
    }

    fn checked(self, name: &str) -> Result<Self> {
        for (what, id) in [("user", self.uid), ("group", self.gid)] {
            ensure!(
                id != 0 && id != NOBODY && id != u32::MAX,
                "can't go on as {name}, which has the {what} id {id}: barrierd gives up its privileges for a \
                 {what} of its own, not root's and not nobody's; name another with --user"
            );
        }
        Ok(self)
    }
}

/// The line of `name` in the text of a passwd file, as an account.
fn find(passwd: &str, name: &str) -> Option<Result<Account>> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = fields.into_iter().find(|fields| fields[0] == name)?;
    let number = |i: usize| line.get(i).and_then(|text| text.parse().ok());
    let account = number(2).zip(number(3)).map(|(uid, gid)| Account { uid, gid });
    Some(account.with_context(|| format!("the line of {name} in {PASSWD} has no user and group")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n\
                        barrierd:x:987:986::/:/usr/sbin/nologin\nbroken:x:one:2\nshort\n";

    #[test]
    fn b8_the_default_user_is_nobody_elses() {
        let handed_out = [
            ("users and packages", 0..=60_000),
            ("systemd-homed, host users in containers", 60_001..=60_577),
            ("DynamicUser", 61_184..=65_519),
            ("Debian's packages", 60_000..=64_999),
            ("nonroot, nogroup, nobody, and -1 of 16 bits", 65_532..=65_535),
            ("subordinate ids and containers", 65_536..=u32::MAX),
        ];
        for (whose, ids) in handed_out {
            assert!(!ids.contains(&DEFAULT_ID), "{whose}");
        }
    }

    #[test]
    fn by_name_and_by_number() {
        let look_up = |asked| Account::look_up(asked, TEXT).expect("found");
        assert_eq!(look_up(None), Account { uid: 987, gid: 986 });
        assert_eq!(look_up(Some("barrierd")), Account { uid: 987, gid: 986 });
        assert_eq!(look_up(Some("1234")), Account { uid: 1234, gid: 1234 });
        assert_eq!(look_up(Some("1234:5678")), Account { uid: 1234, gid: 5678 });
        let none = Account::look_up(None, "").expect("a number");
        assert_eq!(none, Account { uid: DEFAULT_ID, gid: DEFAULT_ID });
    }

    #[test]
    fn who_is_no_user_of_ones_own_is_refused() {
        let refused =
            |asked: &str| Account::look_up(Some(asked), TEXT).expect_err("refused").to_string();
        assert!(refused("somebody").contains("useradd --system"));
        for asked in ["root", "nobody", "0", "7:0", "65534", "4294967295"] {
            assert!(refused(asked).contains("of its own"), "{asked}");
        }
        assert!(refused("broken").contains("has no user and group"));
        assert!(refused("short").contains("has no user and group"));
    }
}
