//! How many wakers of a task are held: see the [runtime](crate::runtime#wakers).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::local_queue::LocalQueue;
use crate::runtime::{ExecutorOptions, Semaphore, Timer, run, spawn_local};
use crate::shutdown::Shutdown;
use crate::sync::{LowWatermark, Wakeup, mailbox};

/// More polls than a task may have wakers.
const POLLS: u32 = 40_000;
const LONG: Duration = Duration::from_secs(600);

#[test]
fn a_task_that_is_polled_again_and_again_gives_no_more_wakers_away() {
    let wait = async {
        let (wakeup, postgres, shutdown) =
            (Wakeup::new(), LowWatermark::new(2, 1), Shutdown::new());
        let (answers, submits) = (LocalQueue::<u8>::new(), LocalQueue::<u8>::new());
        let (_sender, mut inputs) = mailbox::<u8>(1);
        let connections = Semaphore::new(0);
        let generation = submits.generation();
        let mut due = pin!(Timer::new(LONG));
        let mut moves = pin!(postgres.lowest().beyond(0));
        let mut changes = pin!(submits.changed_since(generation));
        let mut stop = pin!(shutdown.requested());
        let mut permit = pin!(connections.acquire(1));
        let mut polls = 0;
        poll_fn(|context| {
            let mut ready = due.as_mut().poll(context).is_ready();
            ready |= moves.as_mut().poll(context).is_ready();
            ready |= changes.as_mut().poll(context).is_ready();
            ready |= permit.as_mut().poll(context).is_ready();
            ready |= wakeup.poll_wait(context, || false).is_ready();
            ready |= inputs.poll_recv(context).is_ready();
            ready |= answers.poll_some(context).is_ready();
            ready |= stop.as_mut().poll(context).is_ready();
            assert!(!ready, "nothing has come");
            polls += 1;
            if polls > POLLS {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    };
    run(ExecutorOptions::default(), async { spawn_local(wait).await }).unwrap();
}
