//! Join tokens: bounded rights to enrol, one file each under `tokens/`, so that `custody-sink enroll` makes them
//! while the sink runs. The file's name is the secret's hash; the secret itself is nowhere on this side.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use custody_ledger::Hash;
use custody_ledger::tree::hash_of;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::clock::now_ns;
use crate::files::{self, FileError, failed};
use crate::identity::Role;

/// Longest token file that is read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a token gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Grant {
    /// A host, with these labels.
    Host {
        /// Labels that the host gets.
        labels: BTreeMap<String, String>,
    },
    /// A person.
    Person {
        /// In which role.
        role: Role,
        /// Under which name.
        name: String,
        /// The scope of a reader.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    grant: Grant,
    uses_left: u32,
    /// Ns since 1970.
    expires_ns: u64,
}

/// Why a token gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No token has this secret.
    #[error("the join token is unknown here: ask for a new one")]
    Unknown,
    /// Its time is over.
    #[error("the join token has expired: ask for a new one")]
    Expired,
    /// It was used as often as it may be.
    #[error("the join token is used up: ask for a new one")]
    UsedUp,
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The limit of open tokens is reached.
    #[error("there are too many open join tokens: let some expire, or raise limits.tokens_max")]
    TooMany,
    /// The operating system gave no random bytes.
    #[error("the system's random generator gave nothing")]
    Random,
}

/// The folder of tokens.
pub struct Tokens {
    folder: PathBuf,
    /// One use at a time: two requests must not both take the last.
    using: Mutex<()>,
}

impl Tokens {
    /// Opens the folder under the state directory, and removes tokens that are over.
    pub fn open(state_directory: &Path) -> Result<Self, TokenError> {
        let folder = state_directory.join("tokens");
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let tokens = Tokens { folder, using: Mutex::new(()) };
        tokens.count_open()?;
        Ok(tokens)
    }

    /// Makes a token and answers its secret.
    pub fn create(
        &self,
        grant: Grant,
        uses: u32,
        expires_ns: u64,
        tokens_max: usize,
    ) -> Result<[u8; 32], TokenError> {
        if self.count_open()? >= tokens_max {
            return Err(TokenError::TooMany);
        }
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| TokenError::Random)?;
        self.write(&hash_of(&secret), &TokenFile { grant, uses_left: uses, expires_ns })?;
        Ok(secret)
    }

    /// What a secret gives, without using it.
    pub fn look_up(&self, secret: &[u8]) -> Result<Grant, TokenError> {
        Ok(self.valid(&hash_of(secret))?.grant)
    }

    /// Uses it once, durably.
    pub fn use_once(&self, secret: &[u8]) -> Result<(), TokenError> {
        let _using = self.using.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let hash = hash_of(secret);
        let mut file = self.valid(&hash)?;
        file.uses_left -= 1;
        self.write(&hash, &file)
    }

    fn valid(&self, hash: &Hash) -> Result<TokenFile, TokenError> {
        let file = self.read(&self.path(hash))?.ok_or(TokenError::Unknown)?;
        if file.expires_ns <= now_ns() {
            Err(TokenError::Expired)
        } else if file.uses_left == 0 {
            Err(TokenError::UsedUp)
        } else {
            Ok(file)
        }
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        self.folder.join(format!("{hash}.json"))
    }

    fn read(&self, path: &Path) -> Result<Option<TokenFile>, TokenError> {
        match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("look at", path)(error).into()),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => return Ok(None),
            Ok(_) => {}
        }
        let bytes = fs::read(path).map_err(failed("read", path))?;
        let file = serde_json::from_slice(&bytes).map_err(|error| failed("read", path)(error.into()))?;
        Ok(Some(file))
    }

    /// Written beside and renamed, so that a reader sees the old one or the new one.
    fn write(&self, hash: &Hash, file: &TokenFile) -> Result<(), TokenError> {
        let path = self.path(hash);
        let bytes = serde_json::to_vec(file).map_err(|error| failed("write", &path)(error.into()))?;
        Ok(files::replace(&path, &bytes, 0o600)?)
    }

    /// Counts tokens that still give something, and removes the others.
    fn count_open(&self) -> Result<usize, TokenError> {
        let mut open = 0;
        for item in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let path = item.map_err(failed("list", &self.folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match self.read(&path) {
                Ok(Some(file)) if file.uses_left > 0 && file.expires_ns > now_ns() => open += 1,
                Ok(Some(_)) => fs::remove_file(&path).map_err(failed("remove", &path))?,
                // A file that cannot be read is no token, and is left for a person to look at.
                Ok(None) | Err(_) => tracing::warn!(path = %path.display(), "this is no token file"),
            }
        }
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens_of(folder: &Path, uses: u32) -> (Tokens, [u8; 32]) {
        let tokens = Tokens::open(folder).unwrap();
        let grant = Grant::Host { labels: BTreeMap::new() };
        let secret = tokens.create(grant, uses, now_ns() + 60_000_000_000, 10).unwrap();
        (tokens, secret)
    }

    #[test]
    fn those_who_take_the_last_use_at_the_same_time_do_not_all_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, secret) = tokens_of(folder.path(), 3);
        let taken = || {
            std::thread::scope(|scope| {
                let takers: Vec<_> =
                    (0..16).map(|_| scope.spawn(|| tokens.use_once(&secret).is_ok())).collect();
                takers.into_iter().map(|taker| usize::from(taker.join().unwrap())).sum::<usize>()
            })
        };
        assert_eq!(taken(), 3);
        assert!(matches!(tokens.look_up(&secret), Err(TokenError::UsedUp)));
        // The sink and `custody-sink enroll` open the folder anew: a use that was taken stays taken.
        let again = Tokens::open(folder.path()).unwrap();
        assert!(again.use_once(&secret).is_err());
    }

    #[test]
    fn a_token_that_has_expired_gives_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let secret = tokens.create(Grant::Host { labels: BTreeMap::new() }, 1, now_ns() - 1, 10).unwrap();
        assert!(matches!(tokens.look_up(&secret), Err(TokenError::Expired)));
        assert!(matches!(tokens.use_once(&secret), Err(TokenError::Expired)));
    }
}
