//! A scripted upstream for tests: chunk cuts, stalls, resets, statuses.
