use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::sleep;

use crate::market::ShardWatch;
use crate::shutdown::Shutdown;

use super::hub::Hub;

/// Between two slices of a busy hub. A real timer, because yielding runs the same task queue again
/// and starves the HTTP tasks of the shard for as long as 100 ms.
const BETWEEN_SLICES: Duration = Duration::from_micros(1);

/// Longest sleep of a hub: closed clients are noticed, and deadlines kept, at least this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Runs a shard's streams until the process stops. The hub is borrowed only within a slice.
pub async fn drive(hub: Rc<RefCell<Hub>>, watch: Arc<ShardWatch>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        let more = hub.borrow_mut().run_slice();
        if more {
            sleep(BETWEEN_SLICES).await;
        } else {
            let woken =
                poll_fn(|context| watch.wakeup.poll_wait(context, || hub.borrow().has_work()));
            or(woken, async {
                sleep(LONGEST_SLEEP).await;
            })
            .await;
        }
    }
    hub.borrow_mut().say_goodbye();
}
