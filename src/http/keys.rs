//! The secrets that the nodes of a deployment share, one file each in a directory that an operator
//! copies to every node.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::auth::{Secret, SecretError, new_secret, read_secret};
use super::peers::PeersSecret;

/// The key of tokens and cookies, in the format of `--jwt-secret-file`.
const TOKEN_KEY: &str = "token.key";
/// The key by which nodes know each other.
const PEERS_KEY: &str = "peers.key";

/// Enough that two sets of keys do not have the same by chance.
const FINGERPRINT_BYTES: usize = 16;

/// A directory with the shared secrets.
#[derive(Debug, Clone)]
pub struct KeysDirectory(PathBuf);

/// Why no keys were made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There are some already.
    #[error("{path} exists already, and keys are not overwritten: remove it, or name another directory", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The directory or a file cannot be made.
    #[error("cannot make {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl KeysDirectory {
    /// The keys in this directory.
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Makes a directory with new keys, readable by its owner alone.
    ///
    /// # Errors
    /// There are keys already, or they cannot be written.
    pub fn make(directory: &Path) -> Result<Self, KeysError> {
        let keys = Self::at(directory);
        let failed = |path: &Path, source| KeysError::File { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(directory).map_err(|error| failed(directory, error))?;
        // Neither without the other: half a set would look like a whole one.
        if let Some(path) = keys.files().into_iter().find(|path| path.exists()) {
            return Err(KeysError::Exists { path });
        }
        for path in keys.files() {
            write_new(&path, &new_secret()).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => KeysError::Exists { path: path.clone() },
                _ => failed(&path, error),
            })?;
        }
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed(directory, error))?;
        Ok(keys)
    }

    /// What was made, and what to do with it, for an operator.
    pub fn made(&self) -> String {
        let directory = self.0.display();
        format!(
            "made {directory} with {TOKEN_KEY} (signs users' tokens) and {PEERS_KEY} (by which nodes know \
             each other): copy it to every node, readable by Longbow alone, and start each with --keys"
        )
    }

    /// The key of tokens and cookies.
    ///
    /// # Errors
    /// The file cannot be read or the key is too short.
    pub fn token_secret(&self) -> Result<Secret, SecretError> {
        self.present(TOKEN_KEY).and_then(|path| Secret::read(&path))
    }

    /// The key by which nodes know each other.
    ///
    /// # Errors
    /// The file cannot be read or the key is too short.
    pub fn peers_secret(&self) -> Result<PeersSecret, SecretError> {
        let secret = self.present(PEERS_KEY).and_then(|path| read_secret(&path));
        secret.map(PeersSecret::new)
    }

    /// The path of a key that is there.
    fn present(&self, name: &str) -> Result<PathBuf, SecretError> {
        let path = self.0.join(name);
        // What else may be wrong with it is said when it is read.
        if matches!(path.try_exists(), Ok(false)) {
            Err(SecretError::NoKeys { path })
        } else {
            Ok(path)
        }
    }

    /// A hash that tells whether two directories have the same keys, and nothing about them.
    ///
    /// # Errors
    /// A file cannot be read or a key is too short.
    pub fn fingerprint(&self) -> Result<String, SecretError> {
        let [token, peers] = self.files().map(|path| read_secret(&path));
        let Ok(mut hash) = Hmac::<Sha256>::new_from_slice(&peers?) else {
            unreachable!("HMAC takes keys of any length")
        };
        hash.update(b"keys of a deployment of Longbow");
        hash.update(&token?);
        let hash = hash.finalize().into_bytes();
        Ok(hash.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect())
    }

    fn files(&self) -> [PathBuf; 2] {
        [TOKEN_KEY, PEERS_KEY].map(|name| self.0.join(name))
    }
}

/// Writes a secret to a file that does not exist.
fn write_new(path: &Path, secret: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("deployment/keys");
        let keys = KeysDirectory::make(&directory).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let other = KeysDirectory::make(&folder.path().join("other")).unwrap();
        let fingerprint = keys.fingerprint().unwrap();
        assert_eq!(fingerprint, KeysDirectory::at(&directory).fingerprint().unwrap());
        assert_ne!(fingerprint, other.fingerprint().unwrap());
        fs::copy(directory.join(PEERS_KEY), folder.path().join("other").join(PEERS_KEY)).unwrap();
        assert_ne!(fingerprint, other.fingerprint().unwrap(), "one key is another");
        let before: Vec<Vec<u8>> =
            keys.files().iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(keys.files().iter().all(|path| mode(path) == 0o600));
        assert_ne!(before[0], before[1], "one secret does one thing");
        assert!(!keys.token_secret().unwrap().is_development);
        keys.peers_secret().unwrap();

        let refused = KeysDirectory::make(&directory).unwrap_err().to_string();
        assert!(refused.contains("token.key exists already"), "{refused}");
        fs::remove_file(directory.join(TOKEN_KEY)).unwrap();
        let refused = KeysDirectory::make(&directory).unwrap_err().to_string();
        assert!(refused.contains("peers.key exists already"), "{refused}");
        assert!(!directory.join(TOKEN_KEY).exists());
        assert_eq!(fs::read(directory.join(PEERS_KEY)).unwrap(), before[1]);
    }

    #[test]
    fn a_missing_or_short_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeysDirectory::at(folder.path());
        let error = keys.token_secret().err().unwrap().to_string();
        assert!(error.contains("token.key") && error.contains("longbow keys init DIR"), "{error}");
        fs::write(folder.path().join(PEERS_KEY), "short\n").unwrap();
        let error = keys.peers_secret().err().unwrap().to_string();
        assert!(error.contains("peers.key has 5 bytes; at least 32"), "{error}");
    }
}
