//! The allocator of every program of ours.
//!
//! A gateway serves crowds that come and go, and glibc keeps for good what a crowd has used: 500 slow senders in seven waves left
//! a process 22 MiB larger, where they now leave it one. jemalloc returns memory a tenth of a second after its last use, from
//! a thread of its own, and has an arena for each processor instead of four, so that more of what one crowd leaves is there
//! for the next. The settings are in `.cargo/config.toml`, because they are compiled in. Libraries in C keep the allocator of
//! the system.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;
