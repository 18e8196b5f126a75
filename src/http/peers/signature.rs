//! Signatures of requests between nodes: HMAC-SHA256 (RFC 2104) over everything that decides what a
//! request does.

use std::fmt::{self, Write};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::cluster::{CLOCK_LIMIT, NodeId};
use crate::types::{TimestampMicros, UserId};

/// Header that carries the signature of a request that was passed on.
pub(in crate::http) const SIGNATURE_HEADER: &str = "x-longbow-peer";
/// How far the clocks of two nodes may differ, the way of a request included.
pub(super) const VALIDITY_MICROS: u64 = 10_000_000;
/// Members whose clocks are near enough to Postgres' clock understand each other.
const _: () = assert!(2 * CLOCK_LIMIT.as_micros() < VALIDITY_MICROS as u128);
/// Names this format, inside of what is signed as well.
const VERSION: &str = "2";
/// Bytes of an HMAC-SHA256.
const CODE_BYTES: usize = 32;

/// The secret that nodes share.
pub struct PeersSecret(Vec<u8>);

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Signed<'a> {
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The only header that is passed on.
    pub last_event_id: &'a [u8],
    pub body: &'a [u8],
    /// The node that is to answer, and the epoch of its process. A request does not count at another one, which
    /// does not know either which requests came before it began.
    pub to: (NodeId, i64),
}

/// Why a request is refused. Says what is wrong with it, never what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum Refused {
    #[error("only other nodes may use this listener, with a signature")]
    Missing,
    #[error("the signature does not have the form that nodes of this version send")]
    Malformed,
    /// Signed too long ago, or by a clock that differs too much.
    #[error("the clocks of the two nodes differ by {seconds} s; at most {allowed} s are allowed", allowed = VALIDITY_MICROS / 1_000_000)]
    OutsideWindow {
        /// The difference.
        seconds: u64,
    },
    #[error(
        "the signature is wrong: the nodes have different keys, or the request is for another node"
    )]
    Wrong,
    #[error("the request was received before")]
    Seen,
}

/// The first half of a code, which is as good as unique.
pub(super) type CodePrefix = u128;

/// A signature as its header carries it: version, sender, time, a random number and the user, then the
/// code, separated by `;`.
struct Claim {
    /// Everything before the code, which is a part of what is signed.
    text: String,
    micros: u64,
    user: UserId,
    code: [u8; CODE_BYTES],
}

impl PeersSecret {
    pub(in crate::http) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The signature of a request that this node passes on for a user.
    pub(super) fn sign(
        &self,
        request: &Signed<'_>,
        (from, user): (NodeId, &UserId),
        now: TimestampMicros,
    ) -> String {
        let (micros, number) = (now.micros(), rand::random::<u64>());
        let user = Hex(user.as_str().as_bytes());
        let mut text = format!("{VERSION};{from};{micros};{number:016x};{user}");
        let code = self.mac(&text, request).finalize().into_bytes();
        // Writing to a `String` is infallible.
        let _infallible = write!(text, ";{}", Hex(&code));
        text
    }

    /// The user of a signed request, and what tells it from others.
    ///
    /// # Errors
    /// The signature is malformed, too old or wrong.
    pub(super) fn verify(
        &self,
        header: &[u8],
        request: &Signed<'_>,
        now: TimestampMicros,
    ) -> Result<(UserId, CodePrefix), Refused> {
        let claim = Claim::parse(header).ok_or(Refused::Malformed)?;
        let apart = now.micros().abs_diff(claim.micros);
        // The code first: whoever has no key learns nothing, not even what time it is here.
        // Compares in constant time.
        self.mac(&claim.text, request).verify_slice(&claim.code).map_err(|_| Refused::Wrong)?;
        if apart > VALIDITY_MICROS {
            return Err(Refused::OutsideWindow { seconds: apart / 1_000_000 });
        }
        let prefix = claim.code_prefix();
        Ok((claim.user, prefix))
    }

    fn mac(&self, claim: &str, request: &Signed<'_>) -> Hmac<Sha256> {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes keys of every length (RFC 2104, section 2)")
        };
        let Signed { method, target, last_event_id, body, to } = *request;
        let ((node_id, epoch), body) = (to, Sha256::digest(body));
        let to = format!("{node_id};{epoch}");
        // No part but the last, whose length is fixed, may contain a line end (RFC 9110, section 5.5).
        let parts =
            [claim.as_bytes(), to.as_bytes(), method.as_bytes(), target.as_bytes(), last_event_id];
        for part in parts {
            mac.update(part);
            mac.update(b"\n");
        }
        mac.update(&body);
        mac
    }
}

impl Claim {
    fn parse(header: &[u8]) -> Option<Self> {
        let header = std::str::from_utf8(header).ok()?;
        let (text, code) = header.rsplit_once(';')?;
        let parts: Vec<&str> = text.split(';').collect();
        let &[VERSION, _from, micros, _number, user] = parts.as_slice() else { return None };
        let user = String::from_utf8(decode_hex(user)?).ok()?;
        Some(Self {
            micros: micros.parse().ok()?,
            user: UserId::new(&user).ok()?,
            code: decode_hex(code)?.try_into().ok()?,
            text: text.to_owned(),
        })
    }

    fn code_prefix(&self) -> CodePrefix {
        let half = self.code.iter().take(CODE_BYTES / 2);
        half.fold(0, |number, &byte| number << 8 | CodePrefix::from(byte))
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        &[high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// Not derived: a secret must not reach a log.
impl fmt::Debug for PeersSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PeersSecret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMicros = TimestampMicros::new(1_732_400_000_000_000);
    const REQUEST: Signed<'_> = Signed {
        method: "POST",
        target: "/order?x=1",
        last_event_id: b"7-1",
        body: b"{\"symbol\":\"SPY\"}",
        to: (3, 8),
    };

    fn secret(byte: u8) -> PeersSecret {
        PeersSecret::new(vec![byte; 32])
    }

    fn user() -> UserId {
        UserId::new("jos\u{e9}").unwrap()
    }

    fn verify(header: &str, request: &Signed<'_>, now: TimestampMicros) -> Result<UserId, Refused> {
        secret(7).verify(header.as_bytes(), request, now).map(|(user, _)| user)
    }

    #[test]
    fn a_signed_request_names_its_user_and_each_is_unlike_others() {
        let sign = || secret(7).sign(&REQUEST, (1, &user()), NOW);
        let (first, second) = (sign(), sign());
        assert_eq!(verify(&first, &REQUEST, NOW), Ok(user()));
        let prefix = |header: &str| secret(7).verify(header.as_bytes(), &REQUEST, NOW).unwrap().1;
        assert_ne!(prefix(&first), prefix(&second), "even at the same moment");
        assert_eq!(prefix(&first), prefix(&first));
    }

    #[test]
    fn whatever_decides_what_a_request_does_is_signed() {
        let header = secret(7).sign(&REQUEST, (1, &user()), NOW);
        let others = [
            Signed { method: "GET", ..REQUEST },
            Signed { target: "/order?x=2", ..REQUEST },
            Signed { last_event_id: b"", ..REQUEST },
            Signed { body: b"{}", ..REQUEST },
            Signed { to: (4, 8), ..REQUEST },
            Signed { to: (3, 9), ..REQUEST },
            Signed { target: "/order?x=1\n7-1", last_event_id: b"", ..REQUEST },
        ];
        for other in &others {
            assert_eq!(verify(&header, other, NOW), Err(Refused::Wrong), "{other:?}");
        }
        let by_another_key = secret(8).sign(&REQUEST, (1, &user()), NOW);
        assert_eq!(verify(&by_another_key, &REQUEST, NOW), Err(Refused::Wrong));
        let mut parts: Vec<String> = header.split(';').map(str::to_owned).collect();
        for (place, other) in [(1, "2"), (2, "1732400000000001"), (3, "0"), (4, "616c696365")] {
            let own = std::mem::replace(&mut parts[place], other.to_owned());
            assert_eq!(verify(&parts.join(";"), &REQUEST, NOW), Err(Refused::Wrong), "{place}");
            parts[place] = own;
        }
        assert_eq!(verify(&parts.join(";"), &REQUEST, NOW), Ok(user()));
    }

    #[test]
    fn a_signature_is_valid_for_a_short_time_around_its_own() {
        let header = secret(7).sign(&REQUEST, (1, &user()), NOW);
        let at = |micros: i64| TimestampMicros::new(NOW.micros().wrapping_add_signed(micros));
        for (micros, is_fine) in
            [(-10_000_000, true), (10_000_000, true), (-11_000_000, false), (11_000_000, false)]
        {
            let refused = Refused::OutsideWindow { seconds: 11 };
            let expected = if is_fine { Ok(user()) } else { Err(refused) };
            assert_eq!(verify(&header, &REQUEST, at(micros)), expected, "{micros}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let good = secret(7).sign(&REQUEST, (1, &user()), NOW);
        let (text, code) = good.rsplit_once(';').unwrap();
        for hostile in [
            "",
            ";",
            ";;;;;",
            text,
            &format!("{text};"),
            &format!("{text};{code}00"),
            &format!("{text};{}", &code[..62]),
            &format!("{text};{}g", &code[..63]),
            &good.replacen('2', "1", 1),
            &good.replace(";1732400000000000;", ";-1;"),
            &good.replace(";6a6f73c3a9;", ";;"),
            &good.replace(";6a6f73c3a9;", ";6a6;"),
            &good.replace(";6a6f73c3a9;", ";ff;"),
            &good.replace(";6a6f73c3a9;", ";6a20;"),
            &format!("{good};"),
        ] {
            assert_eq!(verify(hostile, &REQUEST, NOW), Err(Refused::Malformed), "{hostile}");
        }
        assert_eq!(secret(7).verify(b"\xff", &REQUEST, NOW).unwrap_err(), Refused::Malformed);
    }
}
