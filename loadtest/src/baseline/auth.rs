//! Authentication: the bearer token, verified as Longbow verifies it.

use std::{fmt, fs, io, path::Path, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::{Site, problem::Problem};
use crate::error::{Context, Result};

/// Tolerated clock difference, in seconds.
const LEEWAY_SECONDS: u64 = 5;

/// The claims of a token (RFC 7519).
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

/// Verifies tokens.
pub(super) struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the key (HS256), ignoring trailing white space.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] when the file cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).context(&format!("reading {}", path.display()))?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.validate_nbf = true;
        let key = DecodingKey::from_secret(bytes.trim_ascii_end());
        let key = key.map_err(io::Error::other).context("reading the key of the tokens")?;
        Ok(Self { key, validation })
    }

    fn user_of(&self, token: &str) -> std::result::Result<String, Problem> {
        let verified = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = verified.map_err(|error| Problem::unauthorized(&error.to_string()))?.claims;
        if claims.sub.is_empty() {
            return Err(Problem::unauthorized("the token names no user"));
        }
        Ok(claims.sub)
    }
}

/// The user of a request.
#[derive(Debug)]
pub(super) struct User(pub String);

impl FromRequestParts<Arc<Site>> for User {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        site: &Arc<Site>,
    ) -> std::result::Result<Self, Problem> {
        let value = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) =
            token.ok_or_else(|| Problem::unauthorized("send `Authorization: Bearer <token>`"))?;
        site.tokens.user_of(token.trim()).map(User)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    #[test]
    fn only_tokens_of_this_key_that_still_hold_are_taken() {
        let file =
            std::env::temp_dir().join(format!("longbow-baseline-key-{}", std::process::id()));
        fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let tokens = Tokens::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let now = crate::clock::wall_micros() / 1_000_000;
        let sign = |key: &[u8], expires: u64| {
            let claims = json!({ "sub": "alice", "iat": now, "exp": expires });
            let key = EncodingKey::from_secret(key).unwrap();
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
        };
        let key = b"0123456789abcdef0123456789abcdef";
        assert_eq!(tokens.user_of(&sign(key, now + 60)).unwrap(), "alice");
        assert!(tokens.user_of(&sign(key, now - 60)).is_err());
        assert!(tokens.user_of(&sign(b"another key of the same length..", now + 60)).is_err());
    }
}
