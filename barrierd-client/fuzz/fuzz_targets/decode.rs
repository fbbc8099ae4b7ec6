//! The decoder against arbitrary bytes: no panic, no load outside the file, no time after the clock, and
//! whatever is accepted keeps every promise.
//!
//! The input is the file, cut anywhere; its last byte says by how much the length that `fstat` tells is
//! greater than what the bytes cover (the rest reads as zeros, as in a sparse file).
#![no_main]

use std::cell::Cell;
use std::path::Path;

use barrierd_client::boot::BootId;
use barrierd_client::counters::{self, Counters};
use barrierd_client::decode::{decode, len_to_map};
use barrierd_client::{FUTURE_SLACK_NS, abi};
use libfuzzer_sys::fuzz_target;

const BOOT: BootId = BootId(*b"the boot of fuzz");
const NOW: u64 = 1 << 40;

fuzz_target!(|bytes: &[u8]| {
    let Some((&spare, bytes)) = bytes.split_last() else { return };
    let len = bytes.len() as u64 + 64 * u64::from(spare);
    let path = Path::new("fuzz");
    let mapped = len_to_map(path, len).unwrap_or(0);
    let at = |offset: usize| {
        let word = bytes.get(offset..offset + 8);
        word.map_or(0, |word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
    };
    let clock_read = Cell::new(false);
    let load = |offset: usize| {
        assert!(offset % 8 == 0 && offset + 8 <= mapped, "a load at {offset} of {mapped}");
        let time = offset == abi::LAST_INTERRUPT_NS || offset == abi::HEARTBEAT_NS;
        assert!(!(time && clock_read.get()), "a time was loaded after the clock");
        at(offset)
    };
    let decoded = decode(path, len, BOOT, load, || {
        assert!(!clock_read.replace(true), "the clock was read twice");
        NOW
    });
    let Ok(header) = decoded else { return };
    assert!(header.ncpu >= 1 && header.ncpu as u64 == at(abi::NCPU));
    assert!(abi::size_for(header.ncpu) as u64 <= len);
    assert_eq!(header.last_interrupt_ns, at(abi::LAST_INTERRUPT_NS));
    for offset in (0..header.ncpu).map(abi::per_cpu_ns).chain([abi::LAST_INTERRUPT_NS]) {
        assert!(at(offset) < NOW + FUTURE_SLACK_NS);
    }
    if header.legacy {
        assert!((abi::MAGIC..abi::PER_CPU).step_by(8).all(|offset| at(offset) == 0));
        return;
    }
    assert_eq!((at(abi::MAGIC), at(abi::VERSION)), (abi::MAGIC_VALUE, abi::VERSION_VALUE));
    assert_eq!([at(abi::BOOT_ID), at(abi::BOOT_ID + 8)], BOOT.words());
    assert!(at(abi::GENERATION) != 0 && at(abi::HEARTBEAT_NS) < NOW + FUTURE_SLACK_NS);
    let last = at(abi::TRUSTED_LAST_VTIME);
    assert!(last == 0 || last < at(abi::TRUSTED_VTIME));

    let load = |offset: usize| {
        assert!(offset % 8 == 0 && offset + 8 <= mapped, "a load at {offset} of {mapped}");
        at(offset)
    };
    if let Ok(found) = Counters::read(header.ncpu, mapped, load) {
        let base = counters::base(header.ncpu);
        assert_eq!(at(base + counters::MAGIC), counters::MAGIC_VALUE);
        for entry in counters::TABLE {
            let _ = found.get(entry.word);
        }
    }
});
