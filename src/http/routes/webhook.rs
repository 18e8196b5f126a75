use http::request::Parts;
use http::{Request, StatusCode};
use hyper::body::Incoming;

use crate::exchange::webhook::{
    MAX_WEBHOOK_BODY_BYTES, SIGNATURE_HEADER, SignatureError, WebhookVerifier,
};
use crate::http::app::App;
use crate::http::body::read_body_up_to;
use crate::http::posted_lines;
use crate::http::problem::{HttpResponse, Problem};
use crate::http::query::Query;
use crate::types::Clock;

/// `POST /exchange/trades`: the exchange posts lines about our orders, authenticated by signature.
/// Answers `2xx` only when every line is durable, on every node that may have its order, because the
/// exchange then forgets them. An unreadable line loses no other, and posting it again would not help.
pub(in crate::http) async fn post(
    app: &App,
    request: Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    let Some(verifier) = app.site.webhook.as_deref() else { return Err(no_webhook()) };
    let (request, body) = read_body_up_to(MAX_WEBHOOK_BODY_BYTES, request).await?;
    verify(verifier, &request, &body, app).map_err(|error| {
        tracing::warn!(%error, "a webhook batch was refused");
        Problem::new(StatusCode::UNAUTHORIZED, "invalid_signature", error)
    })?;
    Query::none(&request.uri)?;
    posted_lines::record(app, body).await
}

/// Without secrets the route does not exist.
pub(in crate::http) fn no_webhook() -> Problem {
    Problem::not_found("This server does not accept webhooks.")
}

/// The signature's time may follow the exchange's clock or the wall clock: the signer must have set
/// one of them right, and ours may be wrong.
fn verify(
    verifier: &WebhookVerifier,
    request: &Parts,
    body: &[u8],
    app: &App,
) -> Result<(), SignatureError> {
    let mut headers = request.headers.get_all(SIGNATURE_HEADER).iter();
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Err(SignatureError::Missing);
    };
    let commands = app.site.orders.commands();
    let exchange_now = commands.exchange_clock().now(commands.clock().moment());
    match verifier.verify(header.as_bytes(), body, exchange_now) {
        Err(SignatureError::OutsideWindow { .. }) => {
            verifier.verify(header.as_bytes(), body, Clock.now())
        }
        verified => verified,
    }
}
