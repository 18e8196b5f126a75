use std::sync::Arc;

use crate::config::ExchangeLinkArgs;
use crate::exchange::webhook::{WebhookSecrets, WebhookVerifier};
use crate::exchange::wire::WebhookRequest;

use super::ServeError;

/// What the settings of the webhook come to.
#[derive(Debug, Default)]
pub(super) struct Webhook {
    /// Tells the exchange's posts from others; without it none is taken.
    pub verifier: Option<Arc<WebhookVerifier>>,
    /// What to register at the exchange.
    pub registration: Option<WebhookRequest>,
}

/// Reads the secrets.
///
/// # Errors
/// They are not usable, or there is an address without them.
pub(super) fn prepare(arguments: &ExchangeLinkArgs) -> Result<Webhook, ServeError> {
    let url = arguments.webhook_url.as_ref();
    let Some(path) = &arguments.webhook_secret_file else {
        return match url {
            Some(url) => Err(ServeError::WebhookWithoutSecret { url: url.as_str().to_owned() }),
            None => Ok(Webhook::default()),
        };
    };
    let secrets = WebhookSecrets::read(path)?;
    let registration = url.map(|url| WebhookRequest {
        url: url.as_str().to_owned(),
        secret: secrets.current().to_owned(),
    });
    let verifier = WebhookVerifier::new(secrets, arguments.webhook_window());
    Ok(Webhook { verifier: Some(Arc::new(verifier)), registration })
}
