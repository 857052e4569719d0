//! The node's private key: a file of its own, made on first start, that only its owner may read.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tunnel::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// Name of the file in the node's `stateDir`, as `wg genkey` writes one.
pub(crate) const FILE: &str = "private.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not 32 bytes of base64.
    #[error(
        "this is not a WireGuard private key (44 characters of base64, as `farlane key generate` prints)"
    )]
    NotAKey,
    /// The file holds something else.
    #[error(
        "{0} does not hold a WireGuard private key; restore it, or remove it and the node makes a new one"
    )]
    BadFile(PathBuf),
    /// Others may read it.
    #[error("{0} can be read by others; run: chmod 0600 {0}")]
    Exposed(PathBuf),
    /// The system refused.
    #[error("cannot use {path}: {error}")]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Reads a private key as base64.
///
/// # Errors
/// [`KeyError::NotAKey`].
pub fn parse(text: &str) -> Result<PrivateKey, KeyError> {
    let bytes = STANDARD
        .decode(text.trim())
        .map(Zeroizing::new)
        .map_err(|_| KeyError::NotAKey)?;
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::NotAKey)?;
    Ok(PrivateKey::from_bytes(bytes))
}

/// A public key as base64, as `wg` prints it.
pub fn to_text(key: &PublicKey) -> String {
    STANDARD.encode(key.as_bytes())
}

/// The key of the node with this state directory; made if there is none.
///
/// # Errors
/// [`KeyError`]; a key is never replaced.
pub fn load_or_make(state_dir: &Path) -> Result<PrivateKey, KeyError> {
    let path = state_dir.join(FILE);
    let io = |error| KeyError::Io {
        path: path.clone(),
        error,
    };
    std::fs::create_dir_all(state_dir).map_err(io)?;
    match File::open(&path) {
        Ok(file) => load(file, &path),
        Err(error) if error.kind() == ErrorKind::NotFound => make(&path),
        Err(error) => Err(io(error)),
    }
}

fn load(mut file: File, path: &Path) -> Result<PrivateKey, KeyError> {
    let io = |error| KeyError::Io {
        path: path.to_owned(),
        error,
    };
    if file.metadata().map_err(io)?.mode() & 0o077 != 0 {
        return Err(KeyError::Exposed(path.to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(io)?;
    parse(&text).map_err(|_| KeyError::BadFile(path.to_owned()))
}

/// Makes a key. It is written beside and linked into place, so that a node that is killed in the
/// middle, or a second one that starts at the same moment, never sees half a key.
fn make(path: &Path) -> Result<PrivateKey, KeyError> {
    let io = |error| KeyError::Io {
        path: path.to_owned(),
        error,
    };
    let key = PrivateKey::from_bytes(driver::random().map_err(io)?);
    let text = Zeroizing::new(format!(
        "{}\n",
        *Zeroizing::new(STANDARD.encode(key.as_bytes()))
    ));
    let beside = path.with_extension(format!("key.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io)?;
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside).map_err(io)?;
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            load(File::open(path).map_err(io)?, path)
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let directory = std::env::temp_dir().join(format!("farlane-keys-{}", std::process::id()));
        let first = load_or_make(&directory).expect("a key");
        let second = load_or_make(&directory).expect("the same key");
        assert_eq!(first.public(), second.public());
        let mode = std::fs::metadata(directory.join(FILE))
            .expect("the file")
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(&directory).expect("our own directory");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "abc", "AAAA", &"A".repeat(43)] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
