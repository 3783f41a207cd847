//! What a [`crate::Sessions`] can be told: defaults, limits and time-outs.

use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

use agent_threads::TenantId;

use crate::surroundings::ContextOptions;

/// Defaults, limits and time-outs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model of a thread that names none; otherwise the gateway's default.
    pub default_model: Option<String>,
    /// The working directory of a thread that names none.
    pub default_cwd: String,
    /// Identifies this installation to providers.
    pub installation_id: String,
    /// Threads in memory at once, of all tenants.
    pub loaded_threads_max: usize,
    /// Threads in memory that have neither turn nor subscriber; beyond it those that were needed least lately leave.
    pub idle_threads_max: usize,
    /// What a tenant may use at once.
    pub tenant: TenantLimits,
    /// The same for those of whom something else holds.
    pub tenants: HashMap<TenantId, TenantLimits>,
    /// Bytes of text and image data in one user message.
    pub message_bytes_max: usize,
    /// Model calls in one turn; a turn that needs more fails.
    pub model_calls_max: u32,
    /// Events that wait for one subscriber; one that falls further behind is dropped.
    pub event_queue: NonZeroUsize,
    /// A thread without turn or subscriber leaves memory after so long.
    pub idle_unload_after: Duration,
    /// A model stream that says nothing for so long is broken.
    pub stream_idle_timeout: Duration,
    /// When a broken model stream is tried again.
    pub retries: Retries,
    /// What the model is told of its surroundings.
    pub context: ContextOptions,
    /// How full the model's context window may be, in percent, before the input is condensed; none if it never is, unless
    /// a thread's settings say when.
    pub compact_at_percent: Option<u8>,
    /// Whether the items of the model's input that are made here have ids.
    pub item_ids: bool,
    /// How long the gateway's list of models counts as fresh.
    pub models_ttl: Duration,
}

/// What one tenant may use at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantLimits {
    /// Its threads in memory.
    pub loaded_threads_max: usize,
    /// Its turns that run.
    pub running_turns_max: usize,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self { loaded_threads_max: 5_000, running_turns_max: 256 }
    }
}

/// When a broken model stream is tried again.
#[derive(Debug, Clone)]
pub struct Retries {
    /// At most so often for each call.
    pub max: u32,
    /// The first pause; each further one is twice as long, all ±10 %.
    pub base: Duration,
    /// A provider that asks for a longer pause than this fails the turn instead.
    pub delay_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            default_model: None,
            default_cwd: "/".to_owned(),
            installation_id: String::new(),
            loaded_threads_max: 10_000,
            idle_threads_max: 1_000,
            tenant: TenantLimits::default(),
            tenants: HashMap::new(),
            message_bytes_max: 16 << 20,
            model_calls_max: 500,
            event_queue: NonZeroUsize::new(4096).unwrap_or(NonZeroUsize::MIN),
            idle_unload_after: Duration::from_secs(30 * 60),
            stream_idle_timeout: Duration::from_secs(300),
            retries: Retries::default(),
            context: ContextOptions::default(),
            compact_at_percent: Some(90),
            item_ids: false,
            models_ttl: Duration::from_secs(60),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: 5, base: Duration::from_millis(200), delay_max: Duration::from_secs(10 * 60) }
    }
}
