//! Authenticates the exchange's webhook calls: a batch of lines is accepted when it was signed,
//! recently, with a shared secret.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::types::TimestampMicros;

/// Name of the header that carries the signature.
pub const SIGNATURE_HEADER: &str = "x-signature";
/// Lines in one message to the orders thread, which bounds what a full queue of messages holds. A
/// larger batch is sent in parts, one after the other.
pub const WEBHOOK_PART_LINES: usize = 1_024;
/// Largest body: 16 parts of lines of 256 bytes, more than a line with the longest ids takes. A
/// larger body is refused however often the exchange repeats it, so this is far beyond what an
/// exchange would send.
pub const MAX_WEBHOOK_BODY_BYTES: usize = 16 * WEBHOOK_PART_LINES * 256;
/// Most secrets at once: the one in use, the next one, and some room for a rotation that went
/// wrong.
const MAX_SECRETS: usize = 4;
/// Longest secret, in bytes, by the exchange's contract.
const MAX_SECRET_BYTES: usize = 512;
/// Secrets shorter than the hash's output weaken the signature (RFC 2104, section 3). They are not
/// refused, because the exchange issues some of them.
const ADVISED_SECRET_BYTES: usize = 32;
/// Longest secret file: the secrets and their line ends.
const MAX_SECRET_FILE_BYTES: u64 = ((MAX_SECRET_BYTES + 2) * MAX_SECRETS * 2) as u64;
/// Most `v1` values of one signature. An exchange signs with two secrets during a rotation.
const MAX_SIGNATURES: usize = 8;
/// Bytes of an HMAC-SHA256.
const SIGNATURE_BYTES: usize = 32;
/// Longest header: a time, the signatures in hexadecimal, and room for later schemes.
const MAX_HEADER_BYTES: usize = 1_024;

const _: () = assert!(MAX_HEADER_BYTES > 32 + MAX_SIGNATURES * (4 + 2 * SIGNATURE_BYTES));

/// Why the webhook's secrets are unusable.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSecretError {
    /// The file cannot be read.
    #[error("cannot read --webhook-secret-file {path}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no secret, too many or too long ones, or is not text.
    #[error("--webhook-secret-file {path}: {problem}; allowed: 1 to {MAX_SECRETS} secrets of 1 to {MAX_SECRET_BYTES} bytes, one per line", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// The problem. Never contains a secret.
        problem: String,
    },
}

/// The secrets that the exchange may sign with. We register with the first.
#[derive(Clone)]
pub struct WebhookSecrets(Vec<String>);

impl WebhookSecrets {
    /// Reads a file with one secret a line. Surrounding white space and empty lines are ignored.
    ///
    /// # Errors
    /// The file cannot be read, or its contents are invalid.
    pub fn read(path: &Path) -> Result<Self, WebhookSecretError> {
        let unreadable = |source| WebhookSecretError::File { path: path.to_owned(), source };
        let length = fs::metadata(path).map_err(unreadable)?.len();
        let content = |problem| WebhookSecretError::Content { path: path.to_owned(), problem };
        if length > MAX_SECRET_FILE_BYTES {
            return Err(content(format!("it has {length} bytes")));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(content)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let secrets: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|secret| !secret.is_empty())
            .map(str::to_owned)
            .collect();
        if secrets.is_empty() || secrets.len() > MAX_SECRETS {
            return Err(format!("it has {} secrets", secrets.len()));
        }
        if let Some(length) = secrets.iter().map(String::len).find(|&n| n > MAX_SECRET_BYTES) {
            return Err(format!("it has a secret of {length} bytes"));
        }
        if secrets.iter().any(|secret| secret.len() < ADVISED_SECRET_BYTES) {
            tracing::warn!("a webhook secret is shorter than {ADVISED_SECRET_BYTES} bytes");
        }
        Ok(Self(secrets))
    }

    /// The secret to register with.
    pub fn current(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

// Not derived: secrets must not reach a log.
impl std::fmt::Debug for WebhookSecrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "WebhookSecrets({} of them)", self.0.len())
    }
}

/// Why a batch is refused. Says what is wrong with the signature, never what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature header, or more than one.
    #[error("send exactly one `X-Signature` header")]
    Missing,
    /// The header does not follow the contract.
    #[error("`X-Signature` must be t=<unix seconds>,v1=<64 hexadecimal digits>[,v1=...]")]
    Malformed,
    /// Signed too long ago, or by a clock that differs too much.
    #[error(
        "the time in `X-Signature` differs from this clock by {seconds} s; at most {allowed} s are allowed"
    )]
    OutsideWindow {
        /// The difference, in seconds.
        seconds: u64,
        /// The allowed difference, in seconds.
        allowed: u64,
    },
    /// No secret produces any of the values.
    #[error("`X-Signature` does not match the body with any known secret")]
    Wrong,
}

/// Verifies the signatures of webhook calls.
#[derive(Debug, Clone)]
pub struct WebhookVerifier {
    secrets: WebhookSecrets,
    window_seconds: u64,
}

impl WebhookVerifier {
    /// Accepts signatures made with one of these secrets within `window` of now.
    pub fn new(secrets: WebhookSecrets, window: Duration) -> Self {
        Self { secrets, window_seconds: window.as_secs() }
    }

    /// Checks the value of `X-Signature` against the raw body. The time this takes depends on
    /// lengths and counts alone, not on how much of a signature is right.
    ///
    /// # Errors
    /// The signature is invalid, outside of the window or wrong.
    pub fn verify(
        &self,
        header: &[u8],
        body: &[u8],
        now: TimestampMicros,
    ) -> Result<(), SignatureError> {
        let signature = Signature::parse(header).ok_or(SignatureError::Malformed)?;
        let seconds = (now.micros() / 1_000_000).abs_diff(signature.unix_seconds);
        if seconds > self.window_seconds {
            return Err(SignatureError::OutsideWindow { seconds, allowed: self.window_seconds });
        }
        let mut is_right = false;
        for secret in &self.secrets.0 {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
                unreachable!("HMAC takes keys of every length (RFC 2104, section 2)")
            };
            mac.update(signature.time.as_bytes());
            mac.update(b".");
            mac.update(body);
            for value in &signature.values {
                // Compares in constant time.
                is_right |= mac.clone().verify_slice(value).is_ok();
            }
        }
        if is_right { Ok(()) } else { Err(SignatureError::Wrong) }
    }
}

/// The parts of an `X-Signature` that are used.
struct Signature<'a> {
    /// The time as text: the text is what was signed.
    time: &'a str,
    unix_seconds: u64,
    values: Vec<[u8; SIGNATURE_BYTES]>,
}

impl<'a> Signature<'a> {
    /// Parses a header. Parts of other schemes (`v0`, `v2`) are ignored.
    fn parse(header: &'a [u8]) -> Option<Self> {
        if header.len() > MAX_HEADER_BYTES {
            return None;
        }
        let header = std::str::from_utf8(header).ok()?;
        let (mut time, mut values) = (None, Vec::new());
        for part in header.split(',') {
            let (name, value) = part.trim_matches(' ').split_once('=')?;
            match name {
                "t" if time.is_none() => time = Some(value),
                "t" => return None,
                "v1" if values.len() < MAX_SIGNATURES => values.push(decode_hex(value)?),
                "v1" => return None,
                _ => {}
            }
        }
        let time = time.filter(|time| time.bytes().all(|byte| byte.is_ascii_digit()))?;
        let unix_seconds = time.parse().ok()?;
        (!values.is_empty()).then_some(Self { time, unix_seconds, values })
    }
}

fn decode_hex(text: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; SIGNATURE_BYTES];
    if text.len() != 2 * SIGNATURE_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: TimestampMicros = TimestampMicros::new(1_732_400_000_000_000);
    const BODY: &[u8] = br#"{"session":"1","lines":[]}"#;
    // printf '1732400000.{"session":"1","lines":[]}' | openssl dgst -sha256 -hmac first (and second)
    const BY_FIRST: &str = "27718383d1c491853b815698760eecf582157ae6f6c289a59fd35067a26612b9";
    const BY_SECOND: &str = "9941ea427ee8c5a2db9dc2ae80ac1a4ec542622a7da6ca8c03be2b59a572d047";

    fn verifier(secrets: &str) -> WebhookVerifier {
        let secrets = WebhookSecrets::parse(secrets).unwrap();
        WebhookVerifier::new(secrets, Duration::from_secs(300))
    }

    fn verify(secrets: &str, header: &str, body: &[u8]) -> Result<(), SignatureError> {
        verifier(secrets).verify(header.as_bytes(), body, NOW)
    }

    fn header(values: &[&str]) -> String {
        let values: Vec<String> = values.iter().map(|value| format!(",v1={value}")).collect();
        format!("t=1732400000{}", values.concat())
    }

    #[test]
    fn signatures_by_openssl_verify_with_any_of_the_secrets() {
        let by_first = header(&[BY_FIRST]);
        assert_eq!(verify("first", &by_first, BODY), Ok(()));
        assert_eq!(verify("new\nfirst\n", &by_first, BODY), Ok(()), "the old secret still works");
        assert_eq!(verify("second", &header(&[BY_FIRST, BY_SECOND]), BODY), Ok(()));
        assert_eq!(verify("first", &header(&[&BY_FIRST.to_uppercase()]), BODY), Ok(()));
        assert_eq!(verify("first", &format!("v0=x, {by_first},v2=y"), BODY), Ok(()));
    }

    #[test]
    fn another_secret_body_or_time_is_refused() {
        let signed = header(&[BY_FIRST]);
        assert_eq!(verify("second", &signed, BODY), Err(SignatureError::Wrong));
        assert_eq!(verify("first", &signed, b"{}"), Err(SignatureError::Wrong));
        let later = signed.replace("1732400000", "1732400001");
        assert_eq!(verify("first", &later, BODY), Err(SignatureError::Wrong));
        let same_number = signed.replace("t=", "t=0");
        assert_eq!(verify("first", &same_number, BODY), Err(SignatureError::Wrong));
    }

    #[test]
    fn signatures_outside_the_window_are_refused() {
        let signed = header(&[BY_FIRST]);
        for (seconds, is_fine) in [(-301, false), (-300, true), (300, true), (301, false)] {
            let now = TimestampMicros::new(NOW.micros().wrapping_add_signed(seconds * 1_000_000));
            let outcome = verifier("first").verify(signed.as_bytes(), BODY, now);
            let expected = SignatureError::OutsideWindow { seconds: 301, allowed: 300 };
            assert_eq!(outcome, if is_fine { Ok(()) } else { Err(expected) }, "{seconds}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let many = header(&[BY_FIRST; MAX_SIGNATURES + 1]);
        let long = format!("{},x={}", header(&[BY_FIRST]), "x".repeat(MAX_HEADER_BYTES));
        for hostile in [
            "",
            ",",
            "t",
            "t=1732400000",
            "v1=00",
            &format!("v1={BY_FIRST}"),
            &format!("t=,v1={BY_FIRST}"),
            &format!("t=+1732400000,v1={BY_FIRST}"),
            &format!("t=-1,v1={BY_FIRST}"),
            &format!("t=99999999999999999999999,v1={BY_FIRST}"),
            &format!("t=1732400000,t=1732400000,v1={BY_FIRST}"),
            &format!("t=1732400000,v1={}", &BY_FIRST[1..]),
            &format!("t=1732400000,v1={BY_FIRST}0"),
            &format!("t=1732400000,v1={}", BY_FIRST.replace('2', "g")),
            &format!("t=1732400000,v1={},v1=", BY_FIRST),
            &format!("t=1732400000,v1={}", "é".repeat(32)),
            &many,
            &long,
        ] {
            assert_eq!(
                verify("first", hostile, BODY),
                Err(SignatureError::Malformed),
                "{hostile:?}"
            );
        }
    }

    #[test]
    fn secrets_are_counted_and_never_printed() {
        assert_eq!(WebhookSecrets::parse("\n a \n\nb\n").unwrap().0, ["a", "b"]);
        assert_eq!(WebhookSecrets::parse("new\nold").unwrap().current(), "new");
        for wrong in ["", " \n", "1\n2\n3\n4\n5", &"x".repeat(MAX_SECRET_BYTES + 1)] {
            let problem = WebhookSecrets::parse(wrong).unwrap_err();
            assert!(problem.starts_with("it has") && !problem.contains("xxx"), "{problem}");
        }
        assert!(!format!("{:?}", verifier("hidden")).contains("hidden"));
    }

    proptest! {
        #[test]
        fn random_headers_are_refused(header in any::<Vec<u8>>()) {
            prop_assert!(verifier("first").verify(&header, BODY, NOW).is_err());
        }

        #[test]
        fn a_changed_digit_is_refused(place in 0..64_usize, digit in "[0-9a-f]") {
            let mut value = BY_FIRST.to_owned();
            value.replace_range(place..=place, &digit);
            let outcome = verify("first", &header(&[&value]), BODY);
            prop_assert_eq!(outcome.is_ok(), value == BY_FIRST);
        }
    }
}
