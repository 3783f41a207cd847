//! Follows one response of a model: which items are open, which are done, what of them may enter the model's next input.
//!
//! Pure. An item is announced with its first content. Reasoning enters the input together with what it led to, and a tool
//! call only with a response that came to its end, so that the input is valid wherever a turn is cut off.

use agent_threads::{Entry, Item, ItemId, Phase, TurnId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_responses::{
    Item as View, Kind, OutputItem, Terminal,
    event::{OutputItemEvent, OutputTextDelta, ReasoningSummaryTextDelta, ReasoningTextDelta},
};

use crate::{
    context::{self, Outcome},
    event::Event,
    machine::ToolCall,
    model::RateLimit,
};

/// The most parts that a reasoning item is built of here; a provider that numbers beyond it is not followed.
const PARTS_MAX: usize = 1024;

/// One response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    open: Vec<Open>,
    done: Vec<Done>,
    /// Model items that wait for what gives them a place in the input.
    deferred: Vec<Box<RawValue>>,
    /// Whether a tool call is among them.
    deferred_call: bool,
    /// Tool calls that are done.
    pub(crate) calls: Vec<ToolCall>,
    /// The provider's last event.
    pub(crate) terminal: Option<Terminal>,
    /// As told with the response's head.
    pub(crate) rate_limits: Vec<RateLimit>,
}

#[derive(Debug, Clone)]
struct Open {
    output_index: u64,
    item: Item,
    started_at_ms: i64,
    announced: bool,
}

#[derive(Debug, Clone)]
struct Done {
    item: Option<Item>,
    raw: Box<RawValue>,
    kind: DoneKind,
    started_at_ms: i64,
    announced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DoneKind {
    Reasoning,
    ToolCall,
    /// A conversation, condensed by the provider.
    Compaction,
    Other,
}

/// How far a response has come when its items are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It goes on.
    Running,
    /// It came to its end.
    Ended,
    /// It was cut off.
    Cut,
}

/// Entries to be committed together, and what is told after that.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) told: Vec<Told>,
}

/// An event, and the entry of the last commit that it tells.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) event: Event,
    pub(crate) entry: Option<usize>,
}

impl Batch {
    /// Adds an item that is complete.
    pub(crate) fn complete(&mut self, turn_id: TurnId, item: Item, started_at_ms: i64, at_ms: i64) {
        let entry = Some(self.entries.len());
        self.entries.push(Entry::Item { turn_id, item: item.clone() });
        self.told.push(Told { event: Event::ItemCompleted { turn_id, item, started_at_ms, at_ms }, entry });
    }

    fn announce(&mut self, turn_id: TurnId, item: &Item, at_ms: i64) {
        let event = Event::ItemStarted { turn_id, item: empty(item), at_ms };
        self.told.push(Told { event, entry: None });
    }

    /// Adds an item of the model's input.
    pub(crate) fn model_item(&mut self, turn_id: TurnId, json: Box<RawValue>) {
        self.entries.push(Entry::ModelItem { turn_id, json });
    }
}

/// Where in which turn an event came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) turn_id: TurnId,
    /// Which model call of the turn.
    pub(crate) call: u32,
    pub(crate) ms: i64,
}

impl Response {
    /// Whether items are done that have not been settled.
    pub(crate) fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Takes the provider's next event and answers with what is told of it at once. Events that cannot be read are
    /// passed over, as every client of this wire does.
    pub(crate) fn event(&mut self, name: &str, data: &[u8], at: At) -> Vec<Event> {
        match Kind::from_name(name.as_bytes()) {
            Kind::OutputItemAdded => {
                if let Ok(added) = OutputItemEvent::parse(data) {
                    self.added(&added, at);
                }
                Vec::new()
            }
            Kind::OutputItemDone => {
                if let Ok(done) = OutputItemEvent::parse(data) {
                    self.done(done, at);
                }
                Vec::new()
            }
            Kind::OutputTextDelta => {
                let Ok(delta) = OutputTextDelta::parse(data) else { return Vec::new() };
                self.text_delta(&delta, at)
            }
            Kind::ReasoningSummaryTextDelta => {
                let Ok(delta) = ReasoningSummaryTextDelta::parse(data) else { return Vec::new() };
                let place = Place { item_id: &delta.item_id, output_index: delta.output_index };
                self.summary_delta(place, delta.summary_index, Some(&delta.delta), at)
            }
            Kind::ReasoningTextDelta => {
                let Ok(delta) = ReasoningTextDelta::parse(data) else { return Vec::new() };
                self.reasoning_delta(&delta, at)
            }
            kind if kind.is_terminal() => {
                self.terminal = Terminal::parse(kind, data).ok();
                Vec::new()
            }
            _ if name == "response.reasoning_summary_part.added" => {
                let Ok(part) = serde_json::from_slice::<SummaryPart>(data) else { return Vec::new() };
                let place = Place { item_id: &part.item_id, output_index: part.output_index };
                self.summary_delta(place, part.summary_index, None, at)
            }
            _ => Vec::new(),
        }
    }

    fn added(&mut self, added: &OutputItemEvent, at: At) {
        if let Some(item) = shown(&added.item, added.output_index, at) {
            let (output_index, started_at_ms) = (added.output_index, at.ms);
            self.open.push(Open { output_index, item: empty(&item), started_at_ms, announced: false });
        }
    }

    fn done(&mut self, done: OutputItemEvent, at: At) {
        let item = shown(&done.item, done.output_index, at);
        let place = Place {
            item_id: item.as_ref().map_or("", |item| item.id().as_str()),
            output_index: done.output_index,
        };
        let open =
            item.is_some().then(|| self.position(place)).flatten().map(|index| self.open.remove(index));
        // Some upstreams name an item differently when it is done. Clients know it by its first name.
        let item = item.map(|item| match &open {
            Some(open) => with_id(item, open.item.id()),
            None => item,
        });
        let kind = match done.item.view() {
            View::Reasoning { .. } => DoneKind::Reasoning,
            View::FunctionCall { call_id, name, namespace, arguments, .. } => {
                self.calls.push(ToolCall::new(call_id, name, namespace.as_deref(), arguments, false));
                DoneKind::ToolCall
            }
            View::CustomToolCall { call_id, name, namespace, input, .. } => {
                self.calls.push(ToolCall::new(call_id, name, namespace.as_deref(), input, true));
                DoneKind::ToolCall
            }
            View::Other { kind, .. } if kind == "compaction" => DoneKind::Compaction,
            View::Message { .. } | View::Other { .. } => DoneKind::Other,
        };
        self.done.push(Done {
            item,
            raw: done.item.into_raw(),
            kind,
            started_at_ms: open.as_ref().map_or(at.ms, |open| open.started_at_ms),
            announced: open.is_some_and(|open| open.announced),
        });
    }

    fn text_delta(&mut self, delta: &OutputTextDelta<'_>, at: At) -> Vec<Event> {
        let place = Place { item_id: &delta.item_id, output_index: delta.output_index };
        let Some(open) = self.open_at(place) else { return Vec::new() };
        let Item::AgentMessage { id, text, .. } = &mut open.item else { return Vec::new() };
        let (item_id, delta) = (id.clone(), delta.delta.clone().into_owned());
        let started = text.is_empty();
        text.push_str(&delta);
        let event = Event::AgentMessageDelta { turn_id: at.turn_id, item_id, delta };
        open.tell(event, started, at)
    }

    fn summary_delta(&mut self, place: Place<'_>, index: u64, delta: Option<&str>, at: At) -> Vec<Event> {
        let Some(open) = self.open_at(place) else { return Vec::new() };
        let Item::Reasoning { id, summary, .. } = &mut open.item else { return Vec::new() };
        let Some(part) = part(summary, index) else { return Vec::new() };
        let (turn_id, item_id) = (at.turn_id, id.clone());
        let event = match delta {
            Some(delta) => {
                part.push_str(delta);
                Event::ReasoningSummaryDelta {
                    turn_id,
                    item_id,
                    summary_index: index,
                    delta: delta.to_owned(),
                }
            }
            None => Event::ReasoningSummaryPartAdded { turn_id, item_id, summary_index: index },
        };
        open.tell(event, true, at)
    }

    fn reasoning_delta(&mut self, delta: &ReasoningTextDelta<'_>, at: At) -> Vec<Event> {
        let place = Place { item_id: &delta.item_id, output_index: delta.output_index };
        let Some(open) = self.open_at(place) else { return Vec::new() };
        let Item::Reasoning { id, content, .. } = &mut open.item else { return Vec::new() };
        let Some(part) = part(content, delta.content_index) else { return Vec::new() };
        part.push_str(&delta.delta);
        let (item_id, content_index) = (id.clone(), delta.content_index);
        let delta = delta.delta.clone().into_owned();
        open.tell(Event::ReasoningTextDelta { turn_id: at.turn_id, item_id, content_index, delta }, true, at)
    }

    /// What a response made of the conversation that it was to condense: an item of the provider's, or a summary.
    pub(crate) fn outcome(&mut self) -> Option<Outcome> {
        let mut summary = None;
        for done in std::mem::take(&mut self.done) {
            match done.item {
                Some(Item::AgentMessage { text, .. }) if !text.trim().is_empty() => summary = Some(text),
                None if done.kind == DoneKind::Compaction => return Some(Outcome::Item(done.raw)),
                _ => {}
            }
        }
        summary.map(Outcome::Summary)
    }

    /// Takes what can be committed by now.
    pub(crate) fn settle(&mut self, progress: Progress, at: At) -> Batch {
        let mut batch = Batch::default();
        for done in std::mem::take(&mut self.done) {
            if let Some(item) = done.item {
                if !done.announced {
                    batch.announce(at.turn_id, &item, done.started_at_ms);
                }
                batch.complete(at.turn_id, item, done.started_at_ms, at.ms);
            }
            self.deferred_call |= done.kind == DoneKind::ToolCall;
            self.deferred.push(done.raw);
            if matches!(done.kind, DoneKind::Other | DoneKind::Compaction) && !self.deferred_call {
                self.release(at.turn_id, &mut batch);
            }
        }
        match progress {
            Progress::Running => return batch,
            Progress::Ended => self.release(at.turn_id, &mut batch),
            Progress::Cut => self.deferred.clear(),
        }
        // What the user has seen stays, and what the model has said it shall know.
        for open in std::mem::take(&mut self.open).into_iter().filter(|open| open.announced) {
            if let Item::AgentMessage { text, .. } = &open.item {
                batch.model_item(at.turn_id, context::partial_message(text));
            }
            batch.complete(at.turn_id, open.item, open.started_at_ms, at.ms);
        }
        batch
    }

    fn release(&mut self, turn_id: TurnId, batch: &mut Batch) {
        for raw in self.deferred.drain(..) {
            batch.model_item(turn_id, raw);
        }
        self.deferred_call = false;
    }

    fn position(&self, place: Place<'_>) -> Option<usize> {
        let by_id = self.open.iter().position(|open| open.item.id().as_str() == place.item_id);
        by_id.or_else(|| self.open.iter().position(|open| open.output_index == place.output_index))
    }

    fn open_at(&mut self, place: Place<'_>) -> Option<&mut Open> {
        let index = self.position(place)?;
        self.open.get_mut(index)
    }
}

impl Open {
    /// Tells more of the item, after announcing it if this is the first that is told.
    fn tell(&mut self, event: Event, can_be_first: bool, at: At) -> Vec<Event> {
        if !can_be_first || std::mem::replace(&mut self.announced, true) {
            return vec![event];
        }
        let started =
            Event::ItemStarted { turn_id: at.turn_id, item: empty(&self.item), at_ms: self.started_at_ms };
        vec![started, event]
    }
}

/// How a delta names its item.
#[derive(Clone, Copy)]
struct Place<'a> {
    item_id: &'a str,
    output_index: u64,
}

#[derive(Deserialize)]
struct SummaryPart {
    #[serde(default)]
    item_id: String,
    #[serde(default)]
    output_index: u64,
    #[serde(default)]
    summary_index: u64,
}

fn part(parts: &mut Vec<String>, index: u64) -> Option<&mut String> {
    let index = usize::try_from(index).ok().filter(|index| *index < PARTS_MAX)?;
    if parts.len() <= index {
        parts.resize_with(index + 1, String::new);
    }
    parts.get_mut(index)
}

/// The item as a person sees it, if it is of a kind that is shown.
fn shown(item: &OutputItem, output_index: u64, at: At) -> Option<Item> {
    // An item without id gets one that is the same wherever the item is named.
    let id = |id: &Option<String>| match id {
        Some(id) => ItemId::from_provider(id),
        None => ItemId::from_provider(&format!("{}-{}-{output_index}", at.turn_id, at.call)),
    };
    match item.view() {
        View::Message { id: given, role, text, phase } if role == "assistant" => Some(Item::AgentMessage {
            id: id(given),
            text: text.concat(),
            phase: phase.as_deref().and_then(|phase| match phase {
                "commentary" => Some(Phase::Commentary),
                "final_answer" => Some(Phase::FinalAnswer),
                _ => None,
            }),
        }),
        View::Reasoning { id: given, summary, content, .. } => {
            Some(Item::Reasoning { id: id(given), summary: summary.clone(), content: content.clone() })
        }
        View::Message { .. }
        | View::FunctionCall { .. }
        | View::CustomToolCall { .. }
        | View::Other { .. } => None,
    }
}

fn with_id(item: Item, id: &ItemId) -> Item {
    let id = id.clone();
    match item {
        Item::AgentMessage { text, phase, .. } => Item::AgentMessage { id, text, phase },
        Item::Reasoning { summary, content, .. } => Item::Reasoning { id, summary, content },
        Item::UserMessage { client_id, content, .. } => Item::UserMessage { id, client_id, content },
        Item::ContextCompaction { .. } => Item::ContextCompaction { id },
    }
}

/// The item before it had content.
fn empty(item: &Item) -> Item {
    match item {
        Item::AgentMessage { id, phase, .. } => {
            Item::AgentMessage { id: id.clone(), text: String::new(), phase: *phase }
        }
        Item::Reasoning { id, .. } => {
            Item::Reasoning { id: id.clone(), summary: Vec::new(), content: Vec::new() }
        }
        Item::UserMessage { .. } | Item::ContextCompaction { .. } => item.clone(),
    }
}
