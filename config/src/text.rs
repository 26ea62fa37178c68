//! Reads the text of a file, up to a length.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;

/// Reads a UTF-8 file of at most `max` bytes.
///
/// # Errors
/// See [`TextError`].
pub(crate) fn read_bounded(file: &Path, max: usize) -> Result<String, TextError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    // A directory opens, and fails on the read. A pipe or a device ends at the limit.
    File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(TextError::TooLong(max));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        TextError::NotUtf8 { line: good.iter().filter(|b| **b == b'\n').count() + 1 }
    })
}

/// Why the text of a file cannot be read.
#[derive(Debug, Error)]
pub(crate) enum TextError {
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    #[error("the file is longer than {0} bytes, the most that is read")]
    TooLong(usize),
    #[error("the file is not UTF-8: see line {line}")]
    NotUtf8 { line: usize },
}

impl TextError {
    /// Returns the line at fault, from 1; 0 for the file as a whole.
    pub(crate) fn line(&self) -> u32 {
        match self {
            TextError::NotUtf8 { line } => u32::try_from(*line).unwrap_or(u32::MAX),
            TextError::Io(_) | TextError::TooLong(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        std::fs::write(&file, "hällo").unwrap();
        assert_eq!(read_bounded(&file, 6).unwrap(), "hällo");
        assert!(matches!(read_bounded(&file, 5), Err(TextError::TooLong(5))));
        std::fs::write(&file, b"a\nb\n\xff").unwrap();
        assert_eq!(read_bounded(&file, 100).unwrap_err().line(), 3);
        assert!(matches!(read_bounded(directory.path(), 5), Err(TextError::Io(_))));
        assert!(matches!(read_bounded(&directory.path().join("none"), 5), Err(TextError::Io(_))));
        assert!(matches!(read_bounded(Path::new("/dev/zero"), 5), Err(TextError::TooLong(5))));
    }
}
