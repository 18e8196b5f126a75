//! Where a data directory is: which machine, which directory. A copy is somewhere else, and knows
//! where its original was.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use super::DataDir;

/// What tells machines apart even where their names are the same, systemd's machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// The place of a data directory. A directory that is moved within its file system keeps its inode, so
/// it stays at home; a copy never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataHome {
    /// The machine's id, or its name where it has none.
    machine: String,
    /// The machine's name, for people.
    pub host: String,
    inode: u64,
}

impl DataHome {
    /// Where a directory is now.
    ///
    /// # Errors
    /// The directory is not there.
    pub fn of(directory: &DataDir) -> io::Result<Self> {
        let inode = fs::metadata(directory.path())?.ino();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // Containers often have none, or an empty one.
        let id = fs::read_to_string(MACHINE_ID).unwrap_or_default();
        let machine = if id.trim().is_empty() { host.clone() } else { id.trim().to_owned() };
        Ok(Self { machine, host, inode })
    }

    /// Where the directory was when it was last used; `None` before the first time, or if that cannot
    /// be read.
    ///
    /// # Errors
    /// Read errors.
    pub fn remembered(directory: &DataDir) -> io::Result<Option<Self>> {
        match fs::read_to_string(directory.home()) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the directory remember that it is here.
    ///
    /// # Errors
    /// Write errors.
    pub fn remember(&self, directory: &DataDir) -> io::Result<()> {
        fs::write(directory.home(), format!("{self}\n"))
    }
}

/// `MACHINE INODE HOST`: names of hosts have no blanks, and nothing follows them.
impl fmt::Display for DataHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, host, inode } = self;
        write!(f, "{machine} {inode} {host}")
    }
}

/// The text is not a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHome;

impl FromStr for DataHome {
    type Err = NoHome;

    fn from_str(text: &str) -> Result<Self, NoHome> {
        let mut words = text.split(' ');
        let [Some(machine), Some(inode), Some(host), None] = std::array::from_fn(|_| words.next())
        else {
            return Err(NoHome);
        };
        let inode = inode.parse().map_err(|_| NoHome)?;
        Ok(Self { machine: machine.to_owned(), host: host.to_owned(), inode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_at_home_and_a_moved_directory_is() {
        let parent = tempfile::tempdir().unwrap();
        let directory = |name: &str| DataDir::from(parent.path().join(name));
        let (original, copy, moved) = (directory("a"), directory("b"), directory("c"));
        fs::create_dir(original.path()).unwrap();
        assert_eq!(DataHome::remembered(&original).unwrap(), None);
        let home = DataHome::of(&original).unwrap();
        home.remember(&original).unwrap();
        assert_eq!(DataHome::remembered(&original).unwrap(), Some(home.clone()));

        fs::create_dir(copy.path()).unwrap();
        fs::copy(original.home(), copy.home()).unwrap();
        assert_eq!(DataHome::remembered(&copy).unwrap(), Some(home.clone()));
        assert_ne!(DataHome::of(&copy).unwrap(), home);

        fs::rename(original.path(), moved.path()).unwrap();
        assert_eq!(DataHome::of(&moved).unwrap(), home);
    }

    #[test]
    fn a_text_that_is_no_place_is_none() {
        for text in ["", "a", "a 1", "a x b", "a 1 b c"] {
            assert_eq!(text.parse::<DataHome>(), Err(NoHome), "{text:?}");
        }
    }
}
