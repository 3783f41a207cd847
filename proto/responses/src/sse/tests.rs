//! Framing under every cut, against an independent reader.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

/// Frames as raw bytes, all bytes that came out, and the tail.
struct Cut {
    frames: Vec<Frame>,
    bytes: Vec<u8>,
    tail: Option<Bytes>,
}

fn frame_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Cut {
    let mut framer = Framer::new(LIMIT);
    let mut cut = Cut { frames: Vec::new(), bytes: Vec::new(), tail: None };
    for chunk in chunks {
        for block in framer.push(Bytes::copy_from_slice(chunk)).unwrap() {
            let frames: Vec<_> = block.frames().collect();
            assert!(!frames.is_empty(), "a block has a frame");
            let joined: Vec<u8> = frames.iter().flat_map(|frame| frame.raw().to_vec()).collect();
            assert_eq!(&joined[..], &block.bytes()[..], "frames cover their block");
            cut.frames.extend(frames);
            cut.bytes.extend_from_slice(&block.into_bytes());
        }
    }
    cut.tail = framer.finish();
    cut.bytes.extend_from_slice(cut.tail.as_deref().unwrap_or_default());
    cut
}

fn only_frame(text: &str) -> Frame {
    let mut cut = frame_chunks([text.as_bytes()]);
    assert_eq!((cut.frames.len(), &cut.tail), (1, &None), "{text:?}");
    cut.frames.remove(0)
}

/// The standard's algorithm on a whole text: `(event, data)` of every dispatched event that has data.
fn reference(text: &str) -> Vec<(String, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Vec::new();
    let (mut event, mut data) = (String::new(), None::<String>);
    // What follows the last line end is an incomplete line.
    let complete = text.rsplit_once('\n').map_or("", |(head, _)| head);
    for line in complete.split('\n') {
        if line.is_empty() {
            if let Some(data) = data.take() {
                found.push((event.clone(), data));
            }
            event.clear();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => event = value.to_owned(),
            "data" => data = Some(data.map_or(value.to_owned(), |old| old + "\n" + value)),
            _ => {}
        }
    }
    found
}

fn events(frames: &[Frame]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    frames
        .iter()
        .filter(|frame| frame.kind() != Kind::Comment)
        .map(|frame| (text(frame.event().unwrap_or_default()), text(&frame.data())))
        .collect()
}

fn stream_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\r\r",
        "data: {\"type\":\"response.created\"}",
        "data",
        "data:",
        "data:  two",
        "data: x:y",
        "event: message",
        "event:e",
        ": comment",
        ":",
        "id: 1",
        "\u{feff}",
        "é",
        "datax: 1",
        " data: 1",
    ]);
    // The comment at the end tells whether a last CR stands alone.
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat() + ":")
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_the_cuts(text in stream_text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let bytes = text.as_bytes();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let cut = frame_chunks(places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]));
        let whole = frame_chunks([bytes]);
        prop_assert_eq!(&cut.frames, &whole.frames);
        prop_assert_eq!(&cut.tail, &whole.tail);
        prop_assert_eq!(cut.bytes, bytes);
    }

    #[test]
    fn events_are_those_of_the_standard(text in stream_text()) {
        prop_assert_eq!(events(&frame_chunks([text.as_bytes()]).frames), reference(&text));
    }

    #[test]
    fn what_is_encoded_reads_back(name in "[a-z._]{0,20}", data in "[ -~\n\u{e9}]{0,60}") {
        let frame = only_frame(std::str::from_utf8(&encode(&name, data.as_bytes())).unwrap());
        prop_assert_eq!(frame.event(), Some(name.as_bytes()));
        prop_assert_eq!(frame.data(), data.as_bytes());
    }
}

#[test]
fn every_single_byte_cut_gives_the_same() {
    for text in [
        "data: a\n\ndata: b\n\n",
        "data: a\r\n\r\ndata: b\r\n\r\n",
        "data: a\r\rdata: b\r\r",
        "\u{feff}data: a\n\r\ndata: b\r\n\n",
    ] {
        let whole = frame_chunks([text.as_bytes()]);
        assert_eq!(events(&whole.frames), reference(text), "{text:?}");
        assert_eq!(whole.frames.len(), 2, "{text:?}");
        let bytewise = frame_chunks(text.as_bytes().chunks(1));
        assert_eq!((bytewise.frames, bytewise.tail), (whole.frames, whole.tail), "{text:?}");
    }
}

#[test]
fn complete_frames_are_never_held_back() {
    for text in ["data: a\n\n", "data: a\r\n\r\n", "data: a\r\r"] {
        let mut framer = Framer::new(LIMIT);
        assert_eq!(framer.push(Bytes::from(text)).unwrap().len(), 1, "{text:?}");
        assert_eq!((framer.pending(), framer.finish()), (0, None));
    }
}

#[test]
fn blocks_are_slices_and_only_the_cut_frame_is_copied() {
    let mut framer = Framer::new(LIMIT);
    let chunk = Bytes::from("data: 1\n\ndata: 2\n\ndata: 3");
    let blocks = framer.push(chunk.clone()).unwrap();
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0].bytes().as_ptr(), chunk.as_ptr());
    assert_eq!((blocks[0].bytes().len(), blocks[0].frames().count(), framer.pending()), (18, 2, 7));

    let chunk = Bytes::from("3\n\ndata: 4\n\ndata: 5\n\n");
    let blocks = framer.push(chunk.clone()).unwrap();
    assert_eq!(blocks.iter().map(|block| block.frames().count()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(blocks[0].bytes(), "data: 33\n\n");
    assert_eq!(blocks[1].bytes().as_ptr(), chunk[3..].as_ptr());
    assert_eq!(framer.pending(), 0);
}

#[test]
fn the_bound_holds_for_every_cut() {
    let text = b"data: ok\n\ndata: 0123456789\n\n";
    for size in 1..=text.len() {
        let run = |limit| {
            let mut framer = Framer::new(limit);
            text.chunks(size).try_for_each(|chunk| {
                framer.push(Bytes::copy_from_slice(chunk))?;
                assert!(framer.pending() <= limit);
                Ok::<_, Error>(())
            })
        };
        assert_eq!(run(18), Ok(()), "chunks of {size}");
        assert_eq!(run(17), Err(Error::FrameTooLarge { limit: 17 }), "chunks of {size}");
    }
}

#[test]
fn a_truncated_frame_is_the_tail() {
    let cut = frame_chunks([b"data: 1\n\ndata: 2\n".as_slice()]);
    assert_eq!((events(&cut.frames).len(), cut.tail.as_deref()), (1, Some(b"data: 2\n".as_slice())));
}

#[test]
fn kinds_come_from_the_json_first() {
    let check = |text: &str, kind: Kind, name: Option<&str>| {
        let frame = only_frame(text);
        assert_eq!((frame.kind(), frame.kind_str().as_deref()), (kind, name), "{text:?}");
    };
    check("data: {\"type\":\"response.completed\"}\n\n", Kind::Completed, Some("response.completed"));
    check("event: x\ndata:{\"type\":\"response.failed\"}\n\n", Kind::Failed, Some("response.failed"));
    check("data: {\"n\":[{\"type\":\"y\"}], \"type\" : \"error\"}\n\n", Kind::Error, Some("error"));
    check("data: {\"type\":\"resp\\u006fnse.metadata\"}\n\n", Kind::Metadata, Some("response.metadata"));
    check("data: {\ndata: \"type\":\"response.created\"}\n\n", Kind::Created, Some("response.created"));
    check("data: {\"type\":\"response.new_thing\"}\n\n", Kind::Other, Some("response.new_thing"));
    check("event: response.in_progress\ndata: {\"a\":1}\n\n", Kind::InProgress, Some("response.in_progress"));
    check(
        "event: response.incomplete\ndata: {\"type\":7}\n\n",
        Kind::Incomplete,
        Some("response.incomplete"),
    );
    check("data: not json\n\n", Kind::Other, None);
    check("data: [DONE]\n\n", Kind::Done, None);
    check(": ping\n\n", Kind::Comment, None);
    check("event: response.completed\n\n", Kind::Comment, None);
    check("data:\n\n", Kind::Other, None);
    for name in ["response.output_text.delta", "response.output_item.added", "response.output_item.done"] {
        assert_eq!(
            Kind::from_data(format!("{{\"type\":\"{name}\"}}").as_bytes()),
            Kind::from_name(name.as_bytes())
        );
        assert_ne!(Kind::from_name(name.as_bytes()), Kind::Other);
    }
    assert_eq!(
        Kind::from_data(b" {\"a\":0,\"type\":\"response.reasoning_text.delta\"}"),
        Kind::ReasoningTextDelta
    );
    assert_eq!(
        (Kind::from_data(b"[DONE]"), Kind::from_data(b""), Kind::from_data(b"7")),
        (Kind::Done, Kind::Comment, Kind::Other)
    );
    let terminal = [Kind::Completed, Kind::Incomplete, Kind::Failed, Kind::Error];
    assert!(
        terminal.into_iter().all(Kind::is_terminal)
            && !Kind::Done.is_terminal()
            && !Kind::Other.is_terminal()
    );
}

#[test]
fn data_is_a_slice_where_it_can_be() {
    let frame = only_frame("id: 4\ndata: {\"a\":1}\nretry: 5\n\n");
    assert_eq!(frame.data(), "{\"a\":1}");
    assert_eq!(frame.data().as_ptr(), frame.raw()[12..].as_ptr());
    assert_eq!(only_frame("data: a\ndata\ndata:b\n\n").data(), "a\n\nb");
    assert_eq!(only_frame(": nothing\n\n").data(), "");
    assert_eq!(encode("x", b"1\r\n2\r3\n4"), "event: x\ndata: 1\ndata: 2\ndata: 3\ndata: 4\n\n");
}

#[test]
fn debug_shows_no_content() {
    let mut framer = Framer::new(LIMIT);
    let blocks = framer.push(Bytes::from("data: secret\n\ndata: secret")).unwrap();
    let frame = blocks[0].frames().next().unwrap();
    let shown = format!("{framer:?} {:?} {frame:?}", blocks[0]);
    assert_eq!(
        shown,
        "Framer { pending: 12, line: Inside, .. } Block { bytes: 14, frames: 1 } Frame { kind: Other, bytes: 14 }"
    );
}

#[test]
fn a_message_becomes_a_frame_of_its_type() {
    for (message, expected) in [
        (
            r#"{"type":"response.created","a":1}"#,
            "event: response.created\ndata: {\"type\":\"response.created\",\"a\":1}\n\n",
        ),
        (
            r#"{"a":{"type":"x"},"ty\u0070e":"e\u0031"}"#,
            "event: e1\ndata: {\"a\":{\"type\":\"x\"},\"ty\\u0070e\":\"e\\u0031\"}\n\n",
        ),
        ("{\n  \"type\": \"error\"\r\n}", "event: error\ndata: {\ndata:   \"type\": \"error\"\ndata: }\n\n"),
        (r#"{"a":1}"#, "data: {\"a\":1}\n\n"),
        (r#"{"type":"a\nevent: forged"}"#, "data: {\"type\":\"a\\nevent: forged\"}\n\n"),
        (r#"{"type":""}"#, "data: {\"type\":\"\"}\n\n"),
        ("no json", "data: no json\n\n"),
    ] {
        assert_eq!(encode_message(message.as_bytes()), expected, "{message}");
    }
}
