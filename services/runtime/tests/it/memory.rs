//! What the allocator owes the machine.

use std::time::Duration;

/// So much is used in pieces of the size that a connection's buffers have.
const CROWD: usize = 4_000;
const PIECE_BYTES: usize = 16 << 10;
const CROWD_KIB: u64 = 64_000;
/// The allocator returns memory after half a second.
const PATIENCE: Duration = Duration::from_secs(30);

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Other tests of this process come and go with a few MiB, so a half is asked for and not all.
#[test]
fn what_a_crowd_has_used_goes_back_to_the_system() {
    let before = resident_kib();
    let mut crowd: Vec<Vec<u8>> = (0..CROWD).map(|_| vec![1; PIECE_BYTES]).collect();
    let during = resident_kib();
    assert!(during > before + CROWD_KIB / 2, "{before} -> {during} KiB");
    // One of ten stays, among the others: what holds memory for good in an allocator that returns only its end.
    let mut number = 0;
    crowd.retain(|_| {
        number += 1;
        number % 10 == 0
    });
    let began = tokio::time::Instant::now();
    while resident_kib() > during - CROWD_KIB / 2 {
        assert!(began.elapsed() < PATIENCE, "{before} -> {during} -> {} KiB", resident_kib());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(crowd.len(), CROWD / 10);
}
