//! Posts order lines to registered webhooks: signed, in batches, retried until a `2xx`. Each
//! webhook has its own bounded queue. When it overflows, the oldest lines are dropped; the feed and
//! the query still report them. Queues do not survive a restart.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::Notify;

use super::entry::{Entry, MAX_SECRET_BYTES, MAX_URL_BYTES};
use crate::types::TimestampMicros;

/// Most webhooks.
const MAX_WEBHOOKS: usize = 8;
/// Most lines queued for one webhook, about 200 bytes each.
const MAX_QUEUED_LINES: usize = 100_000;
/// Most lines per batch.
const MAX_BATCH_LINES: usize = 256;
/// How long a replaced secret signs beside the new one: time to change it on the receiving side.
const SECRET_OVERLAP_MICROS: u64 = 60 * 60 * 1_000_000;

/// All registered webhooks.
#[derive(Debug, Default)]
pub(super) struct WebhookSenders {
    hooks: Vec<Hook>,
}

#[derive(Debug)]
struct Hook {
    url: String,
    secret: String,
    /// The replaced secret, and when it stops signing.
    previous: Option<(String, TimestampMicros)>,
    queue: VecDeque<Bytes>,
    /// Lines that ever left the front of the queue.
    removed: u64,
    /// Lines dropped because the queue was full.
    dropped: u64,
    filled: Arc<Notify>,
}

/// The outcome of a registration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Registered {
    /// A new webhook; its delivery must be started.
    New(usize),
    /// A known URL; its secret was changed.
    Changed,
    /// There are too many webhooks already.
    TooMany,
}

/// The next batch to post.
pub(super) struct Batch {
    pub(super) url: String,
    pub(super) secrets: Vec<String>,
    pub(super) body: Bytes,
    /// Queue position after its last line.
    pub(super) end: u64,
    pub(super) count: usize,
}

impl WebhookSenders {
    /// Adds a webhook or changes its secret.
    pub(super) fn register(&mut self, url: &str, secret: &str, now: TimestampMicros) -> Registered {
        if let Some(hook) = self.hooks.iter_mut().find(|hook| hook.url == url) {
            if hook.secret != secret {
                let before = std::mem::replace(&mut hook.secret, secret.to_owned());
                hook.previous = Some((before, now.saturating_add_micros(SECRET_OVERLAP_MICROS)));
            }
            return Registered::Changed;
        }
        if self.hooks.len() >= MAX_WEBHOOKS {
            return Registered::TooMany;
        }
        self.hooks.push(Hook {
            url: url.to_owned(),
            secret: secret.to_owned(),
            previous: None,
            queue: VecDeque::new(),
            removed: 0,
            dropped: 0,
            filled: Arc::new(Notify::new()),
        });
        Registered::New(self.hooks.len() - 1)
    }

    /// Indices of all webhooks.
    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.hooks.len()
    }

    /// Queues lines for every webhook.
    pub(super) fn push<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) {
        if self.hooks.is_empty() {
            return;
        }
        for line in lines {
            let line = Bytes::copy_from_slice(line.trim_ascii_end());
            for hook in &mut self.hooks {
                hook.push(line.clone());
            }
        }
    }

    /// Appends the entries that restore the webhooks.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for hook in &self.hooks {
            if let Some((secret, _)) = &hook.previous {
                Entry::Webhook { url: &hook.url, secret }.put(out);
            }
            Entry::Webhook { url: &hook.url, secret: &hook.secret }.put(out);
        }
    }

    pub(super) fn next_batch(
        &self,
        place: usize,
        session: u64,
        now: TimestampMicros,
    ) -> Option<Batch> {
        let hook = self.hooks.get(place)?;
        let count = hook.queue.len().min(MAX_BATCH_LINES);
        if count == 0 {
            return None;
        }
        let lines: Vec<&[u8]> = hook.queue.iter().take(count).map(Bytes::as_ref).collect();
        let mut body = format!(r#"{{"session":"{session}","lines":["#).into_bytes();
        body.extend(lines.join(&b','));
        body.extend(b"]}");
        let previous = hook.previous.as_ref().filter(|(_, until)| now < *until);
        let secrets = [Some(&hook.secret), previous.map(|(secret, _)| secret)];
        Some(Batch {
            url: hook.url.clone(),
            secrets: secrets.into_iter().flatten().cloned().collect(),
            body: body.into(),
            end: hook.removed + count as u64,
            count,
        })
    }

    pub(super) fn delivered(&mut self, place: usize, end: u64) {
        let Some(hook) = self.hooks.get_mut(place) else { return };
        while hook.removed < end && hook.queue.pop_front().is_some() {
            hook.removed += 1;
        }
    }

    pub(super) fn filled(&self, place: usize) -> Option<Arc<Notify>> {
        self.hooks.get(place).map(|hook| Arc::clone(&hook.filled))
    }
}

impl Hook {
    fn push(&mut self, line: Bytes) {
        if self.queue.len() >= MAX_QUEUED_LINES && self.queue.pop_front().is_some() {
            self.removed += 1;
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(url = self.url, dropped = self.dropped, "a webhook is too slow");
            }
        }
        self.queue.push_back(line);
        self.filled.notify_one();
    }
}

/// Validates a URL and a secret before registration.
///
/// # Errors
/// The problem, in words for the answer.
pub(super) fn check(url: &str, secret: &str) -> Result<(), &'static str> {
    if url.len() > MAX_URL_BYTES {
        return Err("url is longer than 2048 bytes");
    }
    let parsed = url::Url::parse(url).map_err(|_| "url is not an absolute URL")?;
    let plain = parsed.scheme() == "http"
        && parsed.has_host()
        && parsed.username().is_empty()
        && parsed.password().is_none();
    if !plain {
        return Err("url must be http:// and without a user; this exchange speaks no TLS");
    }
    if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
        return Err("secret must have 1 to 512 bytes");
    }
    Ok(())
}

/// The value of `X-Signature`: the time and, for each secret, the HMAC-SHA256 of `<unix
/// seconds>.<body>`.
pub(super) fn signature(secrets: &[String], unix_seconds: u64, body: &[u8]) -> String {
    let mut value = format!("t={unix_seconds}");
    for secret in secrets {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
            unreachable!("HMAC takes keys of every length (RFC 2104, section 2)")
        };
        mac.update(format!("{unix_seconds}.").as_bytes());
        mac.update(body);
        value.push_str(",v1=");
        for byte in mac.finalize().into_bytes() {
            let written = write!(value, "{byte:02x}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMicros = TimestampMicros::new(1_732_400_000_000_000);

    fn body(batch: &Batch) -> &str {
        std::str::from_utf8(&batch.body).unwrap()
    }

    #[test]
    fn signatures_are_what_openssl_computes() {
        // printf '1732400000.{"session":"1","lines":[]}' | openssl dgst -sha256 -hmac first (and second)
        let secrets = ["first".to_owned(), "second".to_owned()];
        let value = signature(&secrets, 1_732_400_000, br#"{"session":"1","lines":[]}"#);
        assert_eq!(
            value,
            "t=1732400000,v1=27718383d1c491853b815698760eecf582157ae6f6c289a59fd35067a26612b9,v1=9941ea427ee8c5a2db9dc2ae80ac1a4ec542622a7da6ca8c03be2b59a572d047"
        );
    }

    #[test]
    fn lines_stay_queued_until_delivered() {
        let mut hooks = WebhookSenders::default();
        assert_eq!(hooks.register("http://a/", "s", NOW), Registered::New(0));
        assert!(hooks.next_batch(0, 7, NOW).is_none());
        hooks.push([&b"1\n"[..], b"2\n"].into_iter());
        let first = hooks.next_batch(0, 7, NOW).unwrap();
        assert_eq!(body(&first), r#"{"session":"7","lines":[1,2]}"#);
        hooks.push([&b"3\n"[..]].into_iter());
        assert_eq!(
            body(&hooks.next_batch(0, 7, NOW).unwrap()),
            r#"{"session":"7","lines":[1,2,3]}"#
        );
        hooks.delivered(0, first.end);
        assert_eq!(body(&hooks.next_batch(0, 7, NOW).unwrap()), r#"{"session":"7","lines":[3]}"#);
    }

    #[test]
    fn a_full_queue_drops_its_oldest_lines_even_in_flight() {
        let mut hooks = WebhookSenders::default();
        hooks.register("http://a/", "s", NOW);
        hooks.push((0..MAX_QUEUED_LINES).map(|_| &b"old"[..]));
        let batch = hooks.next_batch(0, 1, NOW).unwrap();
        hooks.push((0..MAX_BATCH_LINES + 1).map(|_| &b"new"[..]));
        assert_eq!(hooks.hooks[0].queue.len(), MAX_QUEUED_LINES);
        hooks.delivered(0, batch.end);
        assert_eq!(
            hooks.hooks[0].queue.len(),
            MAX_QUEUED_LINES,
            "the delivered lines were dropped already"
        );
    }

    #[test]
    fn a_replaced_secret_signs_for_a_while_and_both_are_restored() {
        let mut hooks = WebhookSenders::default();
        hooks.register("http://a/", "old", NOW);
        assert_eq!(hooks.register("http://a/", "new", NOW), Registered::Changed);
        hooks.push([&b"1"[..]].into_iter());
        let secrets = |at| hooks.next_batch(0, 1, at).unwrap().secrets;
        assert_eq!(secrets(NOW), ["new", "old"]);
        assert_eq!(secrets(NOW.saturating_add_micros(SECRET_OVERLAP_MICROS)), ["new"]);
        let mut entries = Vec::new();
        hooks.put(&mut entries);
        let mut expected = Vec::new();
        Entry::Webhook { url: "http://a/", secret: "old" }.put(&mut expected);
        Entry::Webhook { url: "http://a/", secret: "new" }.put(&mut expected);
        assert_eq!(entries, expected);
    }

    #[test]
    fn urls_and_their_number_are_limited() {
        assert_eq!(check("http://127.0.0.1:8080/exchange/trades", "s"), Ok(()));
        for url in ["https://a/", "file:///etc/passwd", "nonsense", "http://user@a/", "http://"] {
            assert!(check(url, "s").is_err(), "{url}");
        }
        assert!(check("http://a/", "").is_err());
        let mut hooks = WebhookSenders::default();
        for n in 0..MAX_WEBHOOKS {
            assert_eq!(hooks.register(&format!("http://{n}/"), "s", NOW), Registered::New(n));
        }
        assert_eq!(hooks.register("http://more/", "s", NOW), Registered::TooMany);
    }
}
