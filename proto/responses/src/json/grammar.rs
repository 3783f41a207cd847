//! Checks the JSON grammar and says where a value ends.
//!
//! Each function takes the offset where something must start and returns the offset after it.

use super::block::special;
use super::{DEPTH_MAX, Error, syntax};

pub(crate) fn skip_whitespace(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The offset after the value that starts at `at`.
pub(crate) fn skip_value(bytes: &[u8], at: usize) -> Result<usize, Error> {
    skip_value_below(bytes, at, 0)
}

/// The kinds of the containers that are open, one bit each: set for an object.
struct Open {
    objects: u128,
    depth: u32,
}

/// The offset after the value at `at`, which stands inside `outer` containers that the caller has opened.
pub(crate) fn skip_value_below(bytes: &[u8], mut at: usize, outer: u32) -> Result<usize, Error> {
    let mut open = Open { objects: 0, depth: 0 };
    loop {
        // A value starts here.
        at = match bytes.get(at) {
            Some(byte @ (b'{' | b'[')) => match enter(bytes, at, *byte == b'{', &mut open, outer)? {
                Entered::Value(next) => {
                    at = next;
                    continue;
                }
                Entered::Empty(next) => next,
            },
            Some(b'"') => skip_string(bytes, at)?,
            Some(b'-' | b'0'..=b'9') => skip_number(bytes, at)?,
            Some(b't') => skip_literal(bytes, at, b"true")?,
            Some(b'f') => skip_literal(bytes, at, b"false")?,
            Some(b'n') => skip_literal(bytes, at, b"null")?,
            _ => return syntax(at, "a value"),
        };
        // A value has ended here: close what ends with it, then go on to the next entry.
        loop {
            if open.depth == 0 {
                return Ok(at);
            }
            at = skip_whitespace(bytes, at);
            let in_object = open.objects & 1 == 1;
            match bytes.get(at) {
                Some(b',') if in_object => {
                    at = skip_key(bytes, skip_whitespace(bytes, at + 1))?;
                    break;
                }
                Some(b',') => {
                    at = skip_whitespace(bytes, at + 1);
                    break;
                }
                Some(b'}') if in_object => {}
                Some(b']') if !in_object => {}
                _ => return syntax(at, "a comma or a closing bracket"),
            }
            at += 1;
            open.objects >>= 1;
            open.depth -= 1;
        }
    }
}

enum Entered {
    /// The container's first value starts here.
    Value(usize),
    /// The container was empty and ended before this offset.
    Empty(usize),
}

fn enter(bytes: &[u8], at: usize, object: bool, open: &mut Open, outer: u32) -> Result<Entered, Error> {
    if open.depth + outer >= DEPTH_MAX {
        return Err(Error::TooDeep { offset: at });
    }
    let next = skip_whitespace(bytes, at + 1);
    match bytes.get(next) {
        Some(b'}') if object => return Ok(Entered::Empty(next + 1)),
        Some(b']') if !object => return Ok(Entered::Empty(next + 1)),
        _ => {}
    }
    open.depth += 1;
    open.objects = (open.objects << 1) | u128::from(object);
    Ok(Entered::Value(if object { skip_key(bytes, next)? } else { next }))
}

/// From a key's opening quote to its value's first byte.
fn skip_key(bytes: &[u8], at: usize) -> Result<usize, Error> {
    if bytes.get(at) != Some(&b'"') {
        return syntax(at, "a key");
    }
    let colon = skip_whitespace(bytes, skip_string(bytes, at)?);
    if bytes.get(colon) != Some(&b':') {
        return syntax(colon, "a colon");
    }
    Ok(skip_whitespace(bytes, colon + 1))
}

/// The offset after the string whose opening quote is at `at`.
pub(super) fn skip_string(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let mut at = at + 1;
    'blocks: while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let mut marks = special(block);
        // Code has an escape every few dozen bytes, so a block is looked at once for all of its own.
        while marks != 0 {
            let place = at + usize::try_from(marks.trailing_zeros()).unwrap_or_default();
            match bytes.get(place) {
                Some(b'"') => return Ok(place + 1),
                Some(b'\\') => {
                    let next = match bytes.get(place + 1) {
                        Some(b'n' | b'"' | b'\\' | b't') => place + 2,
                        _ => skip_escape(bytes, place)?,
                    };
                    let Some(rest) = u32::MAX.checked_shl(u32::try_from(next - at).unwrap_or(u32::MAX))
                    else {
                        at = next;
                        continue 'blocks;
                    };
                    marks &= rest;
                }
                _ => return syntax(place, "no control character in a string"),
            }
        }
        at += block.len();
    }
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = skip_escape(bytes, at)?,
            Some(0x20..) => at += 1,
            Some(_) => return syntax(at, "no control character in a string"),
            None => return syntax(at, "a closing quote"),
        }
    }
}

/// The offset after the escape whose backslash is at `at`.
fn skip_escape(bytes: &[u8], at: usize) -> Result<usize, Error> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let digits = bytes.get(at + 2..at + 6).unwrap_or_default();
            if digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit) {
                Ok(at + 6)
            } else {
                syntax(at, "four hexadecimal digits")
            }
        }
        _ => syntax(at, "an escape"),
    }
}

fn skip_number(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let mut at = if bytes.get(at) == Some(&b'-') { at + 1 } else { at };
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => skip_digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = skip_digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = skip_digits(bytes, at)?;
    }
    Ok(at)
}

fn skip_digits(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
        0 => syntax(at, "a digit"),
        count => Ok(at + count),
    }
}

fn skip_literal(bytes: &[u8], at: usize, literal: &'static [u8]) -> Result<usize, Error> {
    if bytes.get(at..).is_some_and(|rest| rest.starts_with(literal)) {
        Ok(at + literal.len())
    } else {
        syntax(at, "true, false or null")
    }
}
