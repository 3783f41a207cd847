//! Performs a rehearsal: the body that writes each event when its reader asks for it.
//!
//! No task and no buffer: a reader that does not poll stops the performance. The pace is one timer, moved.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::ask::Ask;
use super::plan::{Ending, Plan};
use super::render::{Beat, Identity, Renderer};
use super::words;
use crate::body::{BodyError, Idle};

/// How long a reader of a stalled rehearsal waits: what a provider is given by default.
const STALL: Duration = Duration::from_secs(300);

/// A rehearsal's body.
pub(crate) struct Performance {
    script: VecDeque<Step>,
    renderer: Option<Renderer>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// What comes next.
enum Step {
    /// Bytes that are ready.
    Whole(Bytes),
    /// An event.
    Beat(Beat),
    /// A wait before what follows.
    Pause(Duration),
    /// The connection breaks.
    Cut,
    /// Nothing more comes.
    Stall(Idle),
}

impl Performance {
    /// A body that is there at once.
    pub(super) fn only(bytes: Bytes) -> Performance {
        Performance { script: VecDeque::from([Step::Whole(bytes)]), renderer: None, pause: None }
    }

    /// The performance of a plan, as a stream of events or as one object.
    pub(super) fn new(plan: Plan, ask: Ask, identity: Identity, stream: bool) -> Performance {
        let created_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ending = plan.ending;
        let beats = beats(&plan);
        let pace = plan.pace;
        let renderer = Renderer::new(plan, ask, identity, created_at);
        let mut script = VecDeque::new();
        if stream {
            for beat in beats {
                if !pace.is_zero() && matches!(beat, Beat::SummaryDelta(_) | Beat::TextDelta(_)) {
                    script.push_back(Step::Pause(pace));
                }
                script.push_back(Step::Beat(beat));
            }
        }
        match ending {
            Ending::Cut => script.push_back(Step::Cut),
            Ending::Stall => script.push_back(Step::Stall(Idle::new(STALL))),
            Ending::Completed | Ending::Incomplete | Ending::Failed { .. } if stream => {}
            Ending::Completed | Ending::Incomplete | Ending::Failed { .. } => {
                script.push_back(Step::Whole(renderer.whole()));
            }
        }
        Performance { script, renderer: Some(renderer), pause: None }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let bytes = match self.script.front_mut() {
                None => return Poll::Ready(None),
                Some(Step::Pause(pace)) => {
                    let pace = *pace;
                    let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pace)));
                    ready!(pause.as_mut().poll(cx));
                    self.script.pop_front();
                    // Moved to the next wait already, which begins when this delta has been taken.
                    pause.as_mut().reset(Instant::now() + pace);
                    continue;
                }
                Some(Step::Cut) => {
                    let source = "the rehearsal was cut, as asked".into();
                    return Poll::Ready(Some(Err(BodyError::Reset { source })));
                }
                Some(Step::Stall(idle)) => return idle.poll(cx).map(|error| Some(Err(error))),
                Some(Step::Whole(bytes)) => bytes.clone(),
                Some(Step::Beat(beat)) => match &mut self.renderer {
                    Some(renderer) => renderer.frame(beat),
                    None => return Poll::Ready(None),
                },
            };
            self.script.pop_front();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.script.is_empty()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let whole = |step: &Step| if let Step::Whole(bytes) = step { Some(bytes.len()) } else { None };
        let length = self.script.iter().map(whole).sum::<Option<usize>>();
        length.and_then(|it| u64::try_from(it).ok()).map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The events of a plan, in their order.
fn beats(plan: &Plan) -> Vec<Beat> {
    let mut beats = vec![Beat::Created, Beat::InProgress];
    if let Some(reasoning) = &plan.reasoning {
        beats.extend([Beat::ReasoningAdded, Beat::SummaryPartAdded]);
        beats.extend(words::pieces(reasoning).into_iter().map(Beat::SummaryDelta));
        beats.extend([Beat::SummaryTextDone, Beat::SummaryPartDone, Beat::ReasoningDone]);
    }
    let done = matches!(plan.ending, Ending::Completed | Ending::Incomplete);
    if done || !plan.text.is_empty() {
        beats.extend([Beat::MessageAdded, Beat::ContentPartAdded]);
        beats.extend(words::pieces(&plan.text).into_iter().map(Beat::TextDelta));
    }
    if done {
        beats.extend([Beat::TextDone, Beat::ContentPartDone, Beat::MessageDone]);
    }
    if done || matches!(plan.ending, Ending::Failed { .. }) {
        beats.push(Beat::Terminal);
    }
    beats
}
