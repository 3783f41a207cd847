//! The OpenAI Responses wire as bytes: request spans and splices, SSE frames, events by type, usage.
