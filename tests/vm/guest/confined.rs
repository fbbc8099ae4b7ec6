//! A program without privilege, but for some capabilities.
//!
//! Owns the way there. Knows nothing of what the program is.

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The user that confined programs run as, and its group.
pub(crate) const USER: u32 = 990;

/// The command that runs `program` as [`USER`] with `capabilities` only.
pub(crate) fn command(capabilities: CapabilitySet, program: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    let bits = format!("{:x}", capabilities.bits());
    command.args(["confined", &USER.to_string(), &bits, program]);
    command
}

/// The other end of [`command`]: becomes the program. This process has one thread.
pub(crate) fn exec(user: &str, capabilities: &str, program: &str, arguments: &[&str]) {
    let id: u32 = user.parse().expect("a number");
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    let bits = u64::from_str_radix(capabilities, 16).expect("bits");
    let kept = CapabilitySet::from_bits_retain(bits);
    set_thread_groups(&[]).expect("setgroups");
    // Past the change of user, which takes all capabilities away.
    set_keep_capabilities(true).expect("PR_SET_KEEPCAPS");
    set_thread_res_gid(group, group, group).expect("setresgid");
    set_thread_res_uid(user, user, user).expect("setresuid");
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    set_capabilities(None, sets).expect("capset");
    // Past exec, of a file without capabilities of its own.
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true).expect("PR_CAP_AMBIENT_RAISE");
    }
    panic!("{program}: {}", Command::new(program).args(arguments).exec());
}
