//! Images that a user's message names by their files: read when the message comes, so that the model is told the same
//! bytes in every call.

use agent_threads::UserInput;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::io::AsyncReadExt as _;

use crate::Error;

/// What each image becomes: the `data:` URL of a file, all of them within `bytes_max`.
pub(super) async fn read(content: &[UserInput], bytes_max: usize) -> Result<Vec<Option<String>>, Error> {
    let mut images = Vec::new();
    let mut left = bytes_max;
    for part in content {
        if let UserInput::LocalImage { path, .. } = part {
            let url = data_url(path, left).await.map_err(|why| invalid(path, why))?;
            left = left.saturating_sub(url.len());
            images.push(Some(url));
        }
    }
    Ok(images)
}

/// The same for a service whose users have no files on its machine.
pub(super) fn refuse(content: &[UserInput]) -> Result<Vec<Option<String>>, Error> {
    match content.iter().find_map(|part| match part {
        UserInput::LocalImage { path, .. } => Some(path),
        _ => None,
    }) {
        Some(path) => Err(invalid(path, "this service reads no files of its machine; send the image itself")),
        None => Ok(Vec::new()),
    }
}

fn invalid(path: &str, why: &str) -> Error {
    Error::Invalid(format!("the image {path} cannot be used: {why}").into())
}

async fn data_url(path: &str, bytes_max: usize) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("its path is not absolute");
    }
    let file = tokio::fs::metadata(path).await.map_err(|_| "there is no such file")?;
    // Four characters stand for three bytes.
    let room = u64::try_from(bytes_max / 4 * 3).unwrap_or(u64::MAX);
    if !file.is_file() || file.len() > room {
        return Err("it is no file, or too large");
    }
    let opened = tokio::fs::File::open(path).await.map_err(|_| "it cannot be read")?;
    let mut bytes = Vec::new();
    opened.take(room).read_to_end(&mut bytes).await.map_err(|_| "it cannot be read")?;
    let kind = kind_of(&bytes).ok_or("it is no PNG, JPEG, GIF or WebP image")?;
    Ok(format!("data:{kind};base64,{}", STANDARD.encode(bytes)))
}

/// The type of an image, by its first bytes.
fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}
