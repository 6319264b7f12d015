//! How paths and arguments cross a socket: as text in which each byte that is not ASCII is one character, so that none is lost. Pure.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Any string of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, OsStr>);

impl<'a> From<&'a OsStr> for Text<'a> {
    fn from(text: &'a OsStr) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str().filter(|text| text.is_ascii()) {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_str(&self.0.as_bytes().iter().map(|byte| char::from(*byte)).collect::<String>()),
        }
    }
}

impl<'de> Deserialize<'de> for Text<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = if text.is_ascii() {
            text.into_bytes()
        } else {
            let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
            bytes.map_err(serde::de::Error::custom)?
        };
        Ok(Self(Cow::Owned(OsString::from_vec(bytes))))
    }
}

/// For a field that is a path: `#[serde(with = "wire::path")]`.
pub(super) mod path {
    use std::path::{Path, PathBuf};

    use super::{Deserialize, Deserializer, Serialize, Serializer, Text};

    pub(in crate::sandbox) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        Text::from(path.as_os_str()).serialize(serializer)
    }

    pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Text::deserialize(deserializer).map(|text| text.0.into_owned().into())
    }
}

/// For a field that holds a file's content, mostly text.
pub(super) mod content {
    use super::{Deserialize, Deserializer, OsStr, OsStrExt, OsStringExt, Serialize, Serializer, Text};

    pub(in crate::sandbox) fn serialize<S: Serializer>(content: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Text::from(OsStr::from_bytes(content)).serialize(serializer)
    }

    pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Text::deserialize(deserializer).map(|text| text.0.into_owned().into_vec())
    }
}

/// For a field that is a list of paths.
pub(super) mod paths {
    use std::path::PathBuf;

    use super::{Deserialize, Deserializer, Serializer, Text};

    pub(in crate::sandbox) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| Text::from(path.as_os_str())))
    }

    pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<Text<'_>>::deserialize(deserializer)?.into_iter().map(|text| text.0.into_owned().into()).collect())
    }
}

/// For a field that is a list of paths, each with something else.
pub(super) mod pairs {
    use std::path::PathBuf;

    use super::{Deserialize, Deserializer, Serialize, Serializer, Text};

    pub(in crate::sandbox) fn serialize<S: Serializer, T: Serialize>(pairs: &[(PathBuf, T)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(pairs.iter().map(|(path, other)| (Text::from(path.as_os_str()), other)))
    }

    pub(in crate::sandbox) fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<(PathBuf, T)>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        let pairs = Vec::<(Text<'_>, T)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().map(|(text, other)| (text.0.into_owned().into(), other)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let sent = Text(Cow::Owned(OsString::from_vec(bytes)));
            let json = serde_json::to_string(&sent).expect("json");
            prop_assert_eq!(serde_json::from_str::<Text<'_>>(&json).expect("text"), sent);
        }
    }
}
