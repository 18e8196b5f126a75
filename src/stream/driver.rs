use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::or;

use crate::market::ShardWatch;
use crate::runtime::sleep;
use crate::shutdown::Shutdown;

use super::hub::{Hub, Next};

/// Pause between two slices of a busy hub. It is a real timer because yielding runs the same task
/// queue again, which starves the HTTP tasks of the shard for up to 100 ms.
const BETWEEN_SLICES: Duration = Duration::from_micros(1);

/// Longest sleep of a hub, after which it looks at closed sockets and at deadlines.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Pause between two batches of goodbyes.
const BETWEEN_GOODBYES: Duration = Duration::from_millis(5);

/// Runs a shard's streams until the process stops, then ends them, spread over the drain time. The
/// hub is borrowed only within a slice.
pub async fn drive(hub: Rc<RefCell<Hub>>, watch: Arc<ShardWatch>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        step(&hub, &watch).await;
    }
    // A process that a dead thread takes down does not wait.
    let in_peace = shutdown.is_by_operator();
    let mut goodbyes = hub.borrow().plan_goodbyes(in_peace);
    while !hub.borrow().is_empty() {
        hub.borrow_mut().say_goodbyes(&mut goodbyes);
        or(step_forever(&hub, &watch), async {
            sleep(BETWEEN_GOODBYES).await;
        })
        .await;
    }
}

async fn step_forever(hub: &RefCell<Hub>, watch: &ShardWatch) {
    loop {
        step(hub, watch).await;
    }
}

/// One slice, and the wait that follows it.
async fn step(hub: &RefCell<Hub>, watch: &ShardWatch) {
    let next = hub.borrow_mut().run_slice();
    match next {
        Next::Slice => {
            sleep(BETWEEN_SLICES).await;
        }
        Next::Rest(rest) => {
            // Ticks wait for the end of the rest, so the feed is not asked to wake this shard.
            let urgent = poll_fn(|context| {
                let mut hub = hub.borrow_mut();
                if hub.has_urgent_work() {
                    return Poll::Ready(());
                }
                hub.wake_from_rest(context.waker());
                Poll::Pending
            });
            or(urgent, async {
                sleep(rest.min(LONGEST_SLEEP)).await;
            })
            .await;
        }
        Next::Sleep => {
            let woken =
                poll_fn(|context| watch.wakeup.poll_wait(context, || hub.borrow().has_work()));
            or(woken, async {
                sleep(LONGEST_SLEEP).await;
            })
            .await;
        }
    }
}
