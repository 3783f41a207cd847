//! Gateway keys: `tg_<id>_<secret>`, kept as hashes in a file that an operator edits with commands.

mod edit;
mod form;
mod ring;
mod stored;

pub use edit::{CreatedKey, KeysFile, KeysFileError, NewKey};
pub use stored::KeyEntry;

pub(crate) use form::{is_id, looks_like_key};
pub(crate) use ring::{KeyRing, Override};
