//! A file whose contents a user's program makes up is refused, though root owns it.
//!
//! The smallest FUSE server there is: one regular file, mounted on a file, in a mount namespace
//! that ends with the test's thread.

mod common;

use std::ffi::CString;
use std::fs::{File, OpenOptions, write};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread;

use barrierd_client::{Barrier, OpenError};
use common::{Image, dir, root};

const FILE_MODE: u32 = 0o100_644;
const BYTES: u64 = 4096;
const ENOSYS: i32 = 38;

/// Answers the kernel until the file system is gone. Layouts: include/uapi/linux/fuse.h.
fn serve(mut device: File, contents: &[u8]) {
    let mut request = vec![0; 1 << 17];
    while let Ok(n) = device.read(&mut request) {
        let header = &request[..n];
        let opcode = u32::from_le_bytes(header[4..8].try_into().expect("a header"));
        let body: Option<Vec<u8>> = match opcode {
            26 => Some(words(&[7, 31, 0x1000, 0, 0, 0x1000, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            3 => Some(attributes()),
            // FOPEN_NOFLUSH: or a test that dies with the file open waits for its own server.
            14 => Some(words(&[0, 0, 1 << 5, 0])),
            // Whole pages from the beginning are all that a mapping asks for.
            15 => Some(contents.to_vec()),
            17 => Some(words(&[&[0; 10][..], &[4096, 255, 4096], &[0; 7]].concat())),
            18 | 38 => Some(Vec::new()),
            // Forget and interrupt expect no answer.
            2 | 36 | 42 => continue,
            _ => None,
        };
        let error = if body.is_some() { 0 } else { -ENOSYS };
        let body = body.unwrap_or_default();
        let len = u32::try_from(16 + body.len()).expect("short");
        let mut answer = len.to_le_bytes().to_vec();
        answer.extend(error.to_le_bytes());
        answer.extend(&header[8..16]);
        answer.extend(body);
        if device.write_all(&answer).is_err() {
            return;
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `struct fuse_attr_out`: valid for a minute, inode 1, root's, 0644.
fn attributes() -> Vec<u8> {
    let mut out = words(&[60, 0, 0, 0]);
    for wide in [1, BYTES, 8, 0, 0, 0] {
        out.extend(u64::to_le_bytes(wide));
    }
    out.extend(words(&[0, 0, 0, FILE_MODE, 1, 0, 0, 0, 4096, 0]));
    out
}

#[test]
fn a_file_on_fuse_is_refused() {
    if !root("mounting a FUSE file system") {
        return;
    }
    let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(device) => device,
        Err(error) => {
            eprintln!("SKIPPED, no FUSE here: /dev/fuse: {error}");
            return;
        }
    };
    let dir = dir();
    let path = dir.path().join("barrier");
    let contents = Image::ours(1).bytes();
    write(&path, &contents).expect("written");
    assert!(Barrier::open(&path).is_ok(), "before the mount");

    let options = format!("fd={},rootmode={FILE_MODE:o},user_id=0,group_id=0", device.as_raw_fd());
    let text = |text: &str| CString::new(text).expect("no NUL");
    let at = text(path.to_str().expect("plain"));
    let (fuse, slash, options) = (text("fuse"), text("/"), text(&options));
    // SAFETY: gives this thread, which belongs to this test alone, mounts of its own; the strings
    // outlive the calls.
    let mounted = unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "a mount namespace");
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let none = std::ptr::null();
        assert_eq!(libc::mount(none, slash.as_ptr(), none, private, none.cast()), 0, "private");
        let options = options.as_ptr().cast();
        libc::mount(fuse.as_ptr(), at.as_ptr(), fuse.as_ptr(), 0, options)
    };
    assert_eq!(mounted, 0, "mounting fuse: {}", std::io::Error::last_os_error());
    let server = thread::spawn(move || serve(device, &contents));

    let answer = Barrier::open(&path);
    // SAFETY: the string outlives the call.
    assert_eq!(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }, 0, "unmounted");
    let refused = answer.expect_err("must be refused");
    assert!(matches!(refused, OpenError::Fuse { .. }), "{refused}");
    assert!(refused.to_string().contains("FUSE"), "{refused}");
    server.join().expect("the server ends with its mount");
    assert!(Barrier::open(&path).is_ok(), "after the mount");
}
