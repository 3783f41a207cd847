//! Threads that survive a restart: the log, its stores, ownership.
