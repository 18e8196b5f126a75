//! A mailbox wakes its receiver on either executor, however often it sleeps, and senders notice the
//! end of the receiver.

use longbow::runtime::{ExecutorOptions, run, spawn_local};
use longbow::sync::{Receiver, Refused, Sender, mailbox};
use std::thread;

/// Small, so that both sides often wait for each other.
const CAPACITY: usize = 4;
const MESSAGES: u64 = 20_000;

fn send_all(sender: &Sender<u64>) {
    for number in 0..MESSAGES {
        while let Err(refused) = sender.try_send(number) {
            assert!(matches!(refused, Refused::Full(_)), "the receiver lives");
            thread::yield_now();
        }
    }
}

async fn receive_all(mut receiver: Receiver<u64>) {
    for number in 0..MESSAGES {
        assert_eq!(receiver.recv().await, Some(number));
    }
    assert_eq!(receiver.recv().await, None, "the sender has gone");
}

#[test]
fn a_receiver_on_our_executor_gets_everything_from_another_thread() {
    let (sender, receiver) = mailbox(CAPACITY);
    let sending = thread::spawn(move || send_all(&sender));
    run(ExecutorOptions::default(), receive_all(receiver)).unwrap();
    sending.join().unwrap();
}

#[test]
fn a_receiver_on_tokio_gets_everything_from_another_thread() {
    let (sender, receiver) = mailbox(CAPACITY);
    let sending = thread::spawn(move || send_all(&sender));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(receive_all(receiver));
    sending.join().unwrap();
}

#[test]
fn an_executor_that_ends_with_a_sleeping_receiver_closes_the_mailbox() {
    let (sender, mut receiver) = mailbox::<u64>(CAPACITY);
    let sleeping = async move {
        let waiting = spawn_local(async move { receiver.recv().await });
        // Lets the receiver run until it sleeps, then cancels it.
        futures_lite::future::yield_now().await;
        assert_eq!(waiting.cancel().await, None);
    };
    run(ExecutorOptions::default(), sleeping).unwrap();
    assert!(matches!(sender.try_send(1), Err(Refused::Closed(1))));
}
