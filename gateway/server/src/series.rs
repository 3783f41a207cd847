//! The label sets of the metrics of calls: made once each, shared by all calls that have the same, and bounded.
//!
//! A caller chooses the name of its model. So a name becomes a label only when a provider has answered a call for it, and
//! there is a bound to the sets as a whole; calls beyond it count under `other`. What instruments do with a set is bound
//! to it beforehand, so that a call pays for no label.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram},
};

use crate::{conventions as names, metrics::Instruments};

/// How many sets of tenant, provider and model have names of their own. With the outcomes, and the types of errors that
/// really occur, they stay within what one instrument may hold.
const SETS_MAX: usize = 500;
/// The longest model name that becomes a label.
const MODEL_BYTES_MAX: usize = 128;
/// What a model or tenant without a label of its own is called.
const OTHER: &str = "other";

/// All label sets.
#[derive(Debug, Default)]
pub(crate) struct AllSeries {
    sets: RwLock<HashMap<String, Arc<Series>>>,
}

/// What the calls of a set have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels<'a> {
    /// In the conventions' words.
    pub(crate) operation: &'static str,
    pub(crate) tenant: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
}

/// The instruments for the calls of one tenant to one model of one provider.
#[derive(Debug)]
pub(crate) struct Series {
    labels: [KeyValue; 5],
    tokens: OnceLock<[BoundHistogram<u64>; 2]>,
    first_chunk: OnceLock<BoundHistogram<f64>>,
    ends: RwLock<Vec<(End, Arc<Ends>)>>,
}

/// How a call ended.
pub(crate) type End = (&'static str, Option<&'static str>);

/// The instruments for calls that ended in the same way.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) calls: BoundCounter<u64>,
    pub(crate) duration: BoundHistogram<f64>,
}

impl AllSeries {
    /// The set of a call. `answered` if the provider took the call for this model.
    pub(crate) fn of(&self, labels: Labels<'_>, answered: bool) -> Arc<Series> {
        if labels.model.len() <= MODEL_BYTES_MAX
            && let Some(series) = self.find_or_make(labels, answered)
        {
            return series;
        }
        let nameless = Labels { model: OTHER, ..labels };
        if let Some(series) = self.find_or_make(nameless, true) {
            return series;
        }
        // Operations are ours and providers are configured, so there are few.
        let nobody = Labels { tenant: OTHER, ..nameless };
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sets.entry(nobody.key()).or_insert_with(|| Series::new(nobody)))
    }

    fn find_or_make(&self, labels: Labels<'_>, make: bool) -> Option<Arc<Series>> {
        let key = labels.key();
        if let Some(series) = self.sets.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(Arc::clone(series));
        }
        if !make {
            return None;
        }
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= SETS_MAX {
            return sets.get(&key).map(Arc::clone);
        }
        Some(Arc::clone(sets.entry(key).or_insert_with(|| Series::new(labels))))
    }
}

impl Labels<'_> {
    /// No name has a line break: tenants and providers are configured or proven, and a model with one is its own doing.
    fn key(&self) -> String {
        let Self { operation, tenant, provider, model } = self;
        let mut key =
            String::with_capacity(operation.len() + tenant.len() + provider.len() + model.len() + 3);
        for part in [operation, "\n", tenant, "\n", provider, "\n", model] {
            key.push_str(part);
        }
        key
    }
}

impl Series {
    fn new(labels: Labels<'_>) -> Arc<Self> {
        let Labels { operation, tenant, provider, model } = labels;
        let labels = [
            KeyValue::new(names::OPERATION, operation),
            KeyValue::new(names::PROVIDER_NAME, names::provider_name(provider).to_owned()),
            KeyValue::new(names::REQUEST_MODEL, model.to_owned()),
            KeyValue::new(names::PROVIDER, provider.to_owned()),
            KeyValue::new(names::TENANT, tenant.to_owned()),
        ];
        let (tokens, first_chunk) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { labels, tokens, first_chunk, ends: RwLock::default() })
    }

    /// For input and output tokens.
    pub(crate) fn tokens(&self, instruments: &Instruments) -> &[BoundHistogram<u64>; 2] {
        self.tokens.get_or_init(|| {
            ["input", "output"].map(|kind| {
                let labels = [&self.labels[..], &[KeyValue::new(names::TOKEN_TYPE, kind)]].concat();
                instruments.tokens.bind(&labels)
            })
        })
    }

    /// For the time to the first event.
    pub(crate) fn first_chunk(&self, instruments: &Instruments) -> &BoundHistogram<f64> {
        self.first_chunk.get_or_init(|| instruments.first_chunk.bind(&self.labels))
    }

    /// For calls that ended like this.
    pub(crate) fn ends(&self, instruments: &Instruments, end: End) -> Arc<Ends> {
        let find = |ends: &[(End, Arc<Ends>)]| {
            ends.iter().find(|(known, _)| *known == end).map(|(_, ends)| Arc::clone(ends))
        };
        if let Some(ends) = find(&self.ends.read().unwrap_or_else(PoisonError::into_inner)) {
            return ends;
        }
        let mut all = self.ends.write().unwrap_or_else(PoisonError::into_inner);
        find(&all).unwrap_or_else(|| {
            let (outcome, error) = end;
            let mut labels = self.labels.to_vec();
            labels.push(KeyValue::new(names::OUTCOME, outcome));
            labels.extend(error.map(|error| KeyValue::new(names::ERROR_TYPE, error)));
            let (calls, duration) = (instruments.calls.bind(&labels), instruments.duration.bind(&labels));
            let ends = Arc::new(Ends { calls, duration });
            all.push((end, Arc::clone(&ends)));
            ends
        })
    }
}

#[cfg(test)]
mod tests {
    use gateway_providers::Operation;

    use super::*;

    fn call<'a>(tenant: &'a str, provider: &'a str, model: &'a str) -> Labels<'a> {
        Labels { operation: "chat", tenant, provider, model }
    }

    fn label<'a>(series: &'a Series, name: &str) -> std::borrow::Cow<'a, str> {
        series.labels.iter().find(|label| label.key.as_str() == name).unwrap().value.as_str()
    }

    #[test]
    fn a_model_that_no_provider_serves_has_no_label() {
        let all = AllSeries::default();
        let model = |model: &str, answered| {
            label(&all.of(call("t", "p", model), answered), names::REQUEST_MODEL).into_owned()
        };
        assert_eq!(model("made-up", false), OTHER);
        assert_eq!(model("real", true), "real");
        assert_eq!(model("real", false), "real", "a call that fails counts where the others do");
        assert_eq!(model(&"x".repeat(MODEL_BYTES_MAX + 1), true), OTHER);
        assert_eq!(all.sets.read().unwrap().len(), 2);
    }

    #[test]
    fn sets_are_bounded_whatever_callers_send() {
        let all = AllSeries::default();
        for number in 0..3 * SETS_MAX {
            all.of(call(&format!("tenant-{}", number % 50), "p", &format!("model-{number}")), true);
        }
        let sets = all.sets.read().unwrap().len();
        assert!((SETS_MAX..=SETS_MAX + 1).contains(&sets), "{sets}");
        let beyond = all.of(call("late", "p", "late"), true);
        let labels = [names::TENANT, names::REQUEST_MODEL, names::PROVIDER].map(|name| label(&beyond, name));
        assert_eq!(labels, [OTHER, OTHER, "p"]);
        let early = all.of(call("tenant-0", "p", "model-0"), true);
        assert_eq!(label(&early, names::REQUEST_MODEL), "model-0");
    }

    #[test]
    fn a_count_of_tokens_is_no_chat() {
        let all = AllSeries::default();
        let operation = |operation| {
            label(&all.of(Labels { operation, ..call("t", "p", "m") }, true), names::OPERATION).into_owned()
        };
        let operations = [Operation::Responses, Operation::Compact, Operation::InputTokens];
        assert_eq!(operations.map(names::operation).map(operation), ["chat", "chat", "input_tokens"]);
        assert_eq!(all.sets.read().unwrap().len(), 2);
    }

    #[test]
    fn bedrock_has_its_conventional_name_and_its_id() {
        let series = AllSeries::default().of(call("t", "amazon-bedrock", "m"), true);
        assert_eq!(label(&series, names::PROVIDER_NAME), "aws.bedrock");
        assert_eq!(label(&series, names::PROVIDER), "amazon-bedrock");
    }
}
