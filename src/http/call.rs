//! Requests whose user is known, and where they are answered.

use std::time::Instant;

use http::request::Parts;
use http::{Method, Request};
use hyper::body::Incoming;

use super::app::App;
use super::body::read_body;
use super::problem::Problem;
use crate::types::UserId;

/// A request of a user.
#[derive(Debug)]
pub(super) struct Call {
    pub user: UserId,
    pub head: Parts,
    pub body: Vec<u8>,
    pub arrived: Instant,
    /// Another node has passed it on: it goes no further.
    pub is_passed_on: bool,
}

impl Call {
    /// A client's request, authenticated by token or cookie. Only a body that the route takes is read.
    ///
    /// # Errors
    /// The body is too large, or the user unknown.
    pub(super) async fn of_client(app: &App, request: Request<Incoming>) -> Result<Self, Problem> {
        let arrived = Instant::now();
        let (head, body) = match *request.method() {
            Method::POST | Method::PATCH => read_body(request).await?,
            _ => (request.into_parts().0, Vec::new()),
        };
        let user = app.site.authenticator.user_of(&head.headers)?;
        Ok(Self { user, head, body, arrived, is_passed_on: false })
    }
}
