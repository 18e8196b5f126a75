//! What a user asks for about orders and streams: answered here, or passed on to the node that has it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Method;

use super::app::App;
use super::call::Call;
use super::passing::{NOT_OWNER, Passed, Passing, cut_off, relay, told_cut_off};
use super::peers::{Peers, Place, Unanswered};
use super::problem::Problem;
use super::reply::Reply;
use super::routes::{
    accounts, activities, cancel_all, executions, order_list, order_stream, orders, preview,
    subscribe, subscription_change,
};
use super::user_limit;
use crate::cluster::Peer;
use crate::runtime::sleep;

/// How long a request waits for its user to be taken over, in a planned move: longer than that takes.
const OWNER_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two looks at who has the user.
const OWNER_LOOK: Duration = Duration::from_millis(10);
/// What a user cannot have from a node that is cut off.
const ORDERS: &str = "Orders";

/// What a user asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish<'a> {
    NewOrder,
    Order(&'a str),
    Executions(&'a str),
    Cancel(&'a str),
    Orders,
    CancelAll,
    Account,
    Positions,
    Position(&'a str),
    Portfolio,
    Activities,
    Preview,
    OrderStream,
    PriceStream,
    ChangeStream(&'a str),
}

impl Wish<'_> {
    fn is_stream(self) -> bool {
        matches!(self, Self::OrderStream | Self::PriceStream)
    }

    /// Whether the request may be made twice as if it had been made once.
    fn is_repeatable(self, call: &Call) -> bool {
        match self {
            Self::NewOrder => orders::has_key(&call.body),
            Self::Order(_)
            | Self::Executions(_)
            | Self::Cancel(_)
            | Self::Orders
            | Self::CancelAll
            | Self::Account
            | Self::Positions
            | Self::Position(_)
            | Self::Portfolio
            | Self::Activities
            | Self::Preview
            | Self::OrderStream
            | Self::PriceStream
            | Self::ChangeStream(_) => true,
        }
    }

    fn place(self, peers: &Peers, call: &Call) -> Place {
        match self {
            Self::ChangeStream(id) => peers.place_of_stream(id),
            // Every node has all prices.
            Self::PriceStream if !subscribe::wants_orders(call) => Place::Here,
            // The head of a stream tells nothing of its user.
            Self::OrderStream | Self::PriceStream if call.head.method == Method::HEAD => {
                Place::Here
            }
            Self::NewOrder
            | Self::Order(_)
            | Self::Executions(_)
            | Self::Cancel(_)
            | Self::Orders
            | Self::CancelAll
            | Self::Account
            | Self::Positions
            | Self::Position(_)
            | Self::Portfolio
            | Self::Activities
            | Self::Preview
            | Self::OrderStream
            | Self::PriceStream => peers.place_of_user(&call.user),
        }
    }
}

/// Answers a user's request, wherever it is answered.
pub(super) async fn answer(app: &Rc<App>, wish: Wish<'_>, call: Call) -> Result<Reply, Problem> {
    let method = call.head.method.clone();
    let answered = match &app.site.peers {
        None => answer_here(app, wish, &call).await,
        Some(peers) => answer_or_pass_on(app, peers, wish, call).await,
    };
    // `EventSource` streams answer most problems themselves: on most other answers a browser gives up
    // for good.
    if wish.is_stream() { subscribe::reply(&method, app.node(), answered) } else { answered }
}

async fn answer_or_pass_on(
    app: &Rc<App>,
    peers: &Peers,
    wish: Wish<'_>,
    call: Call,
) -> Result<Reply, Problem> {
    let began = Instant::now();
    loop {
        let refused = match wish.place(peers, &call) {
            Place::Here => {
                let answered = answer_here(app, wish, &call).await;
                let has_moved = || wish.place(peers, &call) != Place::Here;
                match answered {
                    // Nothing has happened, as the user was just handed over.
                    Err(problem) if problem.code() == "unavailable" && has_moved() => {
                        not_here(peers)
                    }
                    answered => return answered,
                }
            }
            _ if call.is_passed_on => match not_here(peers) {
                problem if problem.code() == NOT_OWNER => problem,
                problem => told_cut_off(problem),
            },
            Place::Nowhere => nowhere(peers, wish),
            Place::There(peer) => match there(app, peers, wish, &call, peer).await {
                Ok(reply) => return Ok(reply),
                Err(refused) => refused,
            },
        };
        // A client of a stream comes back by itself.
        let may_wait = refused.is_passing() && !call.is_passed_on && !wish.is_stream();
        if !may_wait || began.elapsed() >= OWNER_PATIENCE {
            return Err(refused);
        }
        sleep(OWNER_LOOK).await;
    }
}

/// The answer of another node.
///
/// # Errors
/// There is none. With a problem that passes nothing has happened that may not happen twice.
async fn there(
    app: &Rc<App>,
    peers: &Peers,
    wish: Wish<'_>,
    call: &Call,
    peer: Peer,
) -> Result<Reply, Problem> {
    if wish.is_stream() {
        // The client's connection, and that to the other node.
        let room = || app.site.streams.quotas.reserve_relay().map_err(subscribe::no_room);
        let permits = [room()?, room()?];
        let relayed = relay(peers, (&app.relays, permits), call, peer).await;
        return relayed.map_err(|error| match error {
            Unanswered::CutOff => cut_off(ORDERS),
            Unanswered::NotOwner | Unanswered::NotSent(_) | Unanswered::Unknown(_) => {
                unreachable_owner("")
            }
        });
    }
    let is_repeatable = wish.is_repeatable(call);
    let passing = Passing { pool: &app.peer_pool, peers, call, is_repeatable };
    match passing.pass_on(peer, || wish.place(peers, call)).await {
        Ok(Passed::Answer(answer)) => Ok(Reply::Response(answer)),
        Ok(Passed::BackHere) => match answer_here(app, wish, call).await {
            // What the other node has done is as unknown as it was.
            Err(problem) if problem.is_passing() => Err(unknown(wish)),
            answered => answered,
        },
        Err(Unanswered::NotOwner) => Err(not_owner()),
        Err(Unanswered::CutOff) => Err(cut_off(ORDERS)),
        Err(Unanswered::NotSent(_)) => Err(unreachable_owner(" Nothing was recorded.")),
        Err(Unanswered::Unknown(_)) => Err(unknown(wish)),
    }
}

/// The other node may have done what was asked.
fn unknown(wish: Wish<'_>) -> Problem {
    match wish {
        Wish::NewOrder => orders::unknown_create(),
        Wish::Cancel(_) => orders::unknown_cancel(),
        Wish::CancelAll => orders::unknown_cancels(),
        Wish::Order(_)
        | Wish::Executions(_)
        | Wish::Orders
        | Wish::Account
        | Wish::Positions
        | Wish::Position(_)
        | Wish::Portfolio
        | Wish::Activities
        | Wish::Preview
        | Wish::OrderStream
        | Wish::PriceStream
        | Wish::ChangeStream(_) => unreachable_owner(""),
    }
}

async fn answer_here(app: &App, wish: Wish<'_>, call: &Call) -> Result<Reply, Problem> {
    let response = match wish {
        Wish::NewOrder => orders::post(app, call).await,
        Wish::Order(id) => orders::get(app, call, id).await,
        Wish::Cancel(id) => orders::delete(app, call, id).await,
        Wish::Executions(id) => executions::list(app, call, id).await,
        Wish::Orders => order_list::list(app, call).await,
        Wish::CancelAll => cancel_all::delete(app, call).await,
        Wish::Account => accounts::account(app, call).await,
        Wish::Positions => accounts::positions(app, call).await,
        Wish::Position(symbol) => accounts::position(app, call, symbol).await,
        Wish::Portfolio => accounts::portfolio(app, call).await,
        Wish::Activities => activities::list(app, call).await,
        Wish::Preview => preview::post(app, call).await,
        Wish::ChangeStream(id) => subscription_change::patch(app, call, id).await,
        Wish::OrderStream => {
            user_limit::check(app, &call.user).await.map_err(subscribe::no_room)?;
            return order_stream::get(app, call).map(Reply::Stream);
        }
        Wish::PriceStream => {
            user_limit::check(app, &call.user).await.map_err(subscribe::no_room)?;
            return subscribe::get(app, call).await.map(Reply::Stream);
        }
    };
    response.map(Reply::Response)
}

/// This node does not have the user, or does not know any more whether it has.
fn not_here(peers: &Peers) -> Problem {
    if peers.map().has_lapsed() { cut_off(ORDERS) } else { not_owner() }
}

/// What was passed on is not passed on again: the other node has heard of an older owner, or of a newer
/// one.
fn not_owner() -> Problem {
    let detail =
        "The user has just been handed over to another node. Nothing was recorded. Try again.";
    Problem::unavailable(NOT_OWNER, detail)
}

/// The node that a request belongs to does not answer, and nothing has happened that counts.
fn unreachable_owner(more: &str) -> Problem {
    let detail =
        format!("The node that has your orders and streams cannot be reached.{more} Try again.");
    Problem::unavailable("unavailable", detail)
}

/// There is no node to pass a request on to.
fn nowhere(peers: &Peers, wish: Wish<'_>) -> Problem {
    if matches!(wish, Wish::ChangeStream(_)) {
        // It ended with its node.
        return subscription_change::unknown_stream();
    }
    if peers.map().has_lapsed() {
        return cut_off(ORDERS);
    }
    let detail = "The node that had your orders is gone, and another one is about to take over. \
                  Nothing was recorded. Try again.";
    Problem::unavailable("no_owner_yet", detail)
}
