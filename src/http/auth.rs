use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::types::{Clock, InvalidValue, UserId};

use super::problem::Problem;

/// Name of the cookie that a browser's session lives in.
pub(super) const SESSION_COOKIE: &str = "longbow_session";
/// How long a session or a development token is good for, in seconds: one trading day.
pub(super) const TOKEN_LIFETIME_S: u64 = 12 * 60 * 60;
/// How far clocks may differ, in seconds.
const LEEWAY_S: u64 = 5;
/// Shortest secret: the key length of HS256 (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// Where the engine keeps the secret that it made itself.
const SECRET_FILE: &str = "jwt-secret";

/// What the server's own tokens say (RFC 7519).
#[derive(Debug, Serialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
}

/// What is read of anybody's token, beside its times, which need not be whole numbers.
#[derive(Debug, Deserialize)]
struct Subject {
    sub: String,
}

/// The key that tokens are signed with.
pub struct Secret {
    bytes: Vec<u8>,
    /// Made by the engine itself: users may log in by name alone.
    is_development: bool,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be used.
    #[error("cannot use the token secret in {path}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No server has made its key in the data directory.
    #[error(
        "there is no token secret in {directory}: start the server there once, name its --data-dir, or name its key with --jwt-secret-file",
        directory = directory.display()
    )]
    NoServer {
        /// Where it would be.
        directory: PathBuf,
    },
    /// The key is too short to be safe.
    #[error("the token secret in {path} has {length} bytes; at least {MIN_SECRET_BYTES} are needed", path = path.display())]
    TooShort {
        /// Which file.
        path: PathBuf,
        /// Its length without white space at the end.
        length: usize,
    },
}

impl Secret {
    /// A key that needs no file.
    #[cfg(any(test, fuzzing))]
    pub(super) fn fixed() -> Self {
        Self { bytes: vec![7; MIN_SECRET_BYTES], is_development: false }
    }

    /// Reads a configured key; white space at its end does not count.
    ///
    /// # Errors
    /// The file cannot be read or the key is too short.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let bytes =
            fs::read(path).map_err(|source| SecretError::File { path: path.to_owned(), source })?;
        let bytes = bytes.trim_ascii_end().to_vec();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(SecretError::TooShort { path: path.to_owned(), length: bytes.len() });
        }
        Ok(Self { bytes, is_development: false })
    }

    /// The development key of a data directory that a server has made.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn made_in(directory: &Path) -> Result<Self, SecretError> {
        let path = directory.join(SECRET_FILE);
        match path.try_exists() {
            Ok(false) => Err(SecretError::NoServer { directory: directory.to_owned() }),
            Ok(true) | Err(_) => Ok(Self { is_development: true, ..Self::read(&path)? }),
        }
    }

    /// The development key of a data directory, made at its first use. Readable by its owner only.
    ///
    /// # Errors
    /// The directory or the file cannot be written or read.
    pub fn of_data_directory(directory: &Path) -> Result<Self, SecretError> {
        let path = directory.join(SECRET_FILE);
        let make = || -> io::Result<()> {
            fs::create_dir_all(directory)?;
            let key: [u8; MIN_SECRET_BYTES] = rand::random();
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            // Whole or not at all, also when two processes start at once: the first link wins.
            let draft = directory.join(format!("{SECRET_FILE}.{}", std::process::id()));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(key.as_bytes())?;
            file.sync_all()?;
            let linked = fs::hard_link(&draft, &path);
            fs::remove_file(&draft)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        };
        if !path.exists() {
            make().map_err(|source| SecretError::File { path: path.clone(), source })?;
        }
        Ok(Self { is_development: true, ..Self::read(&path)? })
    }
}

/// Tells users by their tokens, and makes tokens.
pub struct Authenticator {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    is_development: bool,
}

impl Authenticator {
    /// Uses this key.
    pub fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_S;
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.validate_nbf = true;
        let keys = EncodingKey::from_secret(&secret.bytes)
            .and_then(|encoding| Ok((encoding, DecodingKey::from_secret(&secret.bytes)?)));
        #[expect(clippy::expect_used, reason = "only an empty key is refused")]
        let (encoding, decoding) = keys.expect("a secret has at least MIN_SECRET_BYTES");
        Self { encoding, decoding, validation, is_development: secret.is_development }
    }

    /// Whether users may log in by name alone.
    pub fn is_development(&self) -> bool {
        self.is_development
    }

    /// A token for a user, good for [`TOKEN_LIFETIME_S`].
    ///
    /// # Errors
    /// The user's name cannot be written into a token.
    pub fn issue(&self, user: &UserId) -> Result<String, InvalidValue> {
        let iat = Clock.now().micros() / 1_000_000;
        let claims = Claims { sub: user.as_str().to_owned(), iat, exp: iat + TOKEN_LIFETIME_S };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|_| InvalidValue::new(user.as_str(), "a user that fits into a token"))
    }

    /// The user of a request: of its bearer token, or of its session cookie.
    pub(super) fn user_of(&self, headers: &HeaderMap) -> Result<UserId, Problem> {
        let missing = || {
            Problem::unauthorized(
                "Send `Authorization: Bearer <token>` or the cookie that `POST /session` sets.",
            )
        };
        let token = match bearer_token(headers)? {
            Some(token) => token,
            None => session_cookie(headers).ok_or_else(missing)?,
        };
        self.verify(token)
    }

    fn verify(&self, token: &str) -> Result<UserId, Problem> {
        let verified = jsonwebtoken::decode::<Subject>(token, &self.decoding, &self.validation)
            .map_err(|error| Problem::unauthorized(self.refusal(token, error.kind())))?;
        UserId::new(&verified.claims.sub)
            .map_err(|error| Problem::unauthorized(format!("The token's `sub`: {error}.")))
    }
}

impl Authenticator {
    /// Why this token is refused.
    fn refusal(&self, token: &str, kind: &ErrorKind) -> String {
        match kind {
            // A claim of another type than it has to be counts as missing there.
            ErrorKind::MissingRequiredClaim(claim) if self.has_claim(token, claim) => {
                refusal(&ErrorKind::InvalidClaimFormat(claim.clone()))
            }
            kind => refusal(kind),
        }
    }

    /// Whether a token that is signed with this key has a claim, whatever it is.
    fn has_claim(&self, token: &str, claim: &str) -> bool {
        let mut anything = Validation::new(Algorithm::HS256);
        anything.required_spec_claims.clear();
        (anything.validate_exp, anything.validate_aud) = (false, false);
        jsonwebtoken::decode::<serde_json::Map<_, _>>(token, &self.decoding, &anything)
            .is_ok_and(|token| token.claims.get(claim).is_some_and(|value| !value.is_null()))
    }
}

/// Why a token is refused.
fn refusal(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::ExpiredSignature => "The token has expired; get a new one.".to_owned(),
        ErrorKind::ImmatureSignature => "The token is not valid yet: its `nbf` is to come.".into(),
        ErrorKind::InvalidSignature => {
            "The token is not signed with the key of this server.".to_owned()
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "The token is not signed with HS256.".to_owned()
        }
        ErrorKind::InvalidAudience => {
            "The token is for somebody else: it has an `aud`, and this server has no name.".into()
        }
        ErrorKind::MissingRequiredClaim(claim) => format!("The token has no `{claim}`."),
        ErrorKind::InvalidClaimFormat(claim) => {
            format!("The token's `{claim}` is not of the type that RFC 7519 gives it.")
        }
        _ => "The token is not a signed JWT with a text as `sub`.".to_owned(),
    }
}

/// The bearer token of a request (RFC 6750), `None` without an `Authorization` header.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = || Problem::unauthorized("`Authorization` must be `Bearer <token>`, once.");
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(malformed()) }
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == SESSION_COOKIE).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use serde_json::json;

    fn authenticator() -> (tempfile::TempDir, Authenticator) {
        let directory = tempfile::tempdir().unwrap();
        let secret = Secret::of_data_directory(directory.path()).unwrap();
        let authenticator = Authenticator::new(&secret);
        (directory, authenticator)
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn with(name: http::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_names_its_user_in_header_and_cookie() {
        let (directory, authenticator) = authenticator();
        let token = authenticator.issue(&user("alice")).unwrap();
        let bearer = with(AUTHORIZATION, &format!("bearer {token}"));
        assert_eq!(authenticator.user_of(&bearer).unwrap(), user("alice"));
        let cookie = with(COOKIE, &format!("a=b; {SESSION_COOKIE}={token}; c=d"));
        assert_eq!(authenticator.user_of(&cookie).unwrap(), user("alice"));
        let again = Authenticator::new(&Secret::of_data_directory(directory.path()).unwrap());
        assert_eq!(again.user_of(&bearer).unwrap(), user("alice"), "the key is kept");
    }

    #[test]
    fn other_tokens_are_refused() {
        let (_directory, authenticator) = authenticator();
        let (_other_directory, other) = self::authenticator();
        let token = authenticator.issue(&user("alice")).unwrap();
        let foreign = other.issue(&user("alice")).unwrap();
        let (signed, _) = token.rsplit_once('.').unwrap();
        let key = &authenticator.encoding;
        let sign = |claims: &Claims, algorithm| {
            jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
        };
        let now = Clock.now().micros() / 1_000_000;
        let expired = Claims { sub: "alice".into(), iat: 0, exp: now - LEEWAY_S - 10 };
        let nameless = Claims { sub: String::new(), iat: now, exp: now + 60 };
        let fine = Claims { sub: "alice".into(), iat: now, exp: now + 60 };
        for token in [
            String::new(),
            format!("{signed}."),
            foreign,
            sign(&expired, Algorithm::HS256),
            sign(&nameless, Algorithm::HS256),
            sign(&fine, Algorithm::HS384),
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.".into(),
        ] {
            let headers = with(AUTHORIZATION, &format!("Bearer {token}"));
            assert!(authenticator.user_of(&headers).is_err(), "{token}");
        }
        assert!(authenticator.user_of(&HeaderMap::new()).is_err());
        assert!(authenticator.user_of(&with(AUTHORIZATION, "Basic YTpi")).is_err());
    }

    #[test]
    fn times_are_numeric_dates_and_only_the_end_is_needed() {
        let (_directory, authenticator) = authenticator();
        let now = Clock.now().micros() / 1_000_000;
        let user_of = |claims: serde_json::Value| {
            let header = Header::new(Algorithm::HS256);
            let token = jsonwebtoken::encode(&header, &claims, &authenticator.encoding).unwrap();
            authenticator.user_of(&with(AUTHORIZATION, &format!("Bearer {token}")))
        };
        let later = now + 60;
        for claims in [
            json!({"sub": "alice", "exp": later}),
            json!({"sub": "alice", "exp": later as f64 + 0.5, "iat": now as f64 - 0.25}),
            json!({"sub": "alice", "exp": later, "iat": "whenever", "nbf": now as f64 - 0.5}),
            json!({"sub": "alice", "exp": later, "jti": "1", "roles": ["trader"]}),
        ] {
            assert_eq!(user_of(claims.clone()).unwrap(), user("alice"), "{claims}");
        }
        for claims in [
            json!({"sub": "alice"}),
            json!({"exp": later}),
            json!({"sub": 7, "exp": later}),
            json!({"sub": "alice", "exp": "tomorrow"}),
            json!({"sub": "alice", "exp": null}),
            json!({"sub": "alice", "exp": now as f64 - LEEWAY_S as f64 - 10.5}),
            json!({"sub": "alice", "exp": later, "nbf": now as f64 + LEEWAY_S as f64 + 10.5}),
        ] {
            assert!(user_of(claims.clone()).is_err(), "{claims}");
        }
    }

    #[test]
    fn a_claim_of_another_type_is_not_called_missing() {
        let (_directory, authenticator) = authenticator();
        let told = |claims: serde_json::Value| {
            let header = Header::new(Algorithm::HS256);
            let token = jsonwebtoken::encode(&header, &claims, &authenticator.encoding).unwrap();
            let kind = jsonwebtoken::decode::<Subject>(
                &token,
                &authenticator.decoding,
                &authenticator.validation,
            );
            authenticator.refusal(&token, kind.unwrap_err().kind())
        };
        let typed = told(json!({"sub": "alice", "exp": "tomorrow"}));
        assert_eq!(typed, "The token's `exp` is not of the type that RFC 7519 gives it.");
        assert_eq!(told(json!({"sub": "alice"})), "The token has no `exp`.");
        assert_eq!(told(json!({"sub": "alice", "exp": null})), "The token has no `exp`.");
    }

    #[test]
    fn a_key_that_no_server_has_made_is_not_made_by_asking() {
        let directory = tempfile::tempdir().unwrap();
        let error = Secret::made_in(directory.path()).err().unwrap().to_string();
        assert!(error.contains("--data-dir") && error.contains("--jwt-secret-file"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let made = Secret::of_data_directory(directory.path()).unwrap();
        assert_eq!(Secret::made_in(directory.path()).unwrap().bytes, made.bytes);
    }

    #[test]
    fn a_short_secret_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "too short\n").unwrap();
        let error = Secret::read(&path).err().unwrap().to_string();
        assert!(error.contains("9 bytes") && error.contains("32"), "{error}");
    }
}
