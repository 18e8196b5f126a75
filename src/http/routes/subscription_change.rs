use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::subscribe::known_symbols;
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::fields::Fields;
use crate::http::problem::{HttpResponse, Problem};
use crate::http::query::Query;
use crate::stream::{
    ChangeRefused, MAX_SYMBOLS_PER_STREAM, NotChanged, StreamId, SubscriptionChange,
};
use crate::types::{Symbol, SymbolIndex};

/// The body of `PATCH /subscribe/:streamId`: names of symbols.
#[derive(Debug)]
pub(in crate::http) struct Change {
    add: Vec<String>,
    remove: Vec<String>,
}

impl Change {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::parse(body, &["add", "remove"])?;
        let names = |field| {
            let given = fields.texts(field, "a symbol")?.unwrap_or_default();
            Ok::<Vec<String>, Problem>(given.into_iter().map(str::to_owned).collect())
        };
        Ok(Self { add: names("add")?, remove: names("remove")? })
    }
}

/// `PATCH /subscribe/:streamId`.
pub(in crate::http) async fn patch(
    app: &App,
    call: &Call,
    id: &str,
) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let change = Change::read(&call.body)?;
    for (field, names) in [("add", &change.add), ("remove", &change.remove)] {
        if names.len() > MAX_SYMBOLS_PER_STREAM {
            let given = names.len();
            let detail = format!(
                "At most {MAX_SYMBOLS_PER_STREAM} symbols are allowed per change; {given} were given."
            );
            return Err(Problem::field(field, "invalid_field", detail));
        }
    }
    let add = known_symbols(app, "add", &change.add)?;
    let remove = known_symbols(app, "remove", &change.remove)?;
    if let Some((name, _)) = add.iter().find(|symbol| remove.contains(symbol)) {
        let detail = format!("{name} is in both `add` and `remove`.");
        return Err(Problem::field("remove", "invalid_field", detail));
    }
    let id = StreamId::parse(id).ok_or_else(unknown_stream)?;
    let indexes = |symbols: Vec<(Symbol, SymbolIndex)>| symbols.iter().map(|of| of.1).collect();
    let change = SubscriptionChange { add: indexes(add), remove: indexes(remove) };
    app.await_prices(&change.add).await;
    match app.site.streams.router.change(id, call.user.clone(), change).await {
        Ok(()) => {
            let mut response = Response::new(Full::new(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Err(ChangeRefused::NotChanged(NotChanged::Unknown)) => Err(unknown_stream()),
        Err(ChangeRefused::NotChanged(NotChanged::TooMany { symbols })) => {
            let detail = format!(
                "The stream would have {symbols} symbols; at most {MAX_SYMBOLS_PER_STREAM} are allowed."
            );
            Err(Problem::field("add", "invalid_field", detail))
        }
        Err(ChangeRefused::Busy) => {
            Err(Problem::unavailable("unavailable", "Too many changes are waiting. Try again."))
        }
    }
}

pub(in crate::http) fn unknown_stream() -> Problem {
    Problem::not_found("You have no open stream with this id.")
}
