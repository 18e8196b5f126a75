//! The price stream in the crate `eventsource-client`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::clients::{Seen, SseClient};
use crate::support::stream_story::{self as story, World};
use eventsource_client::{Client, ClientBuilder, ReconnectOptions, SSE};
use futures_lite::StreamExt;
use launchdarkly_sdk_transport::HyperTransport;
use tokio::runtime::Runtime;

/// Its delay before a stream sets one.
const FIRST_DELAY: Duration = Duration::from_millis(100);

struct CrateClient {
    events: Receiver<Seen>,
    _runtime: Runtime,
}

impl CrateClient {
    fn start(world: &World) -> Self {
        let reconnect = ReconnectOptions::reconnect(true).delay(FIRST_DELAY).build();
        let client = ClientBuilder::for_url(&world.address())
            .and_then(|builder| builder.header("authorization", &format!("Bearer {}", world.token)))
            .unwrap()
            .reconnect(reconnect)
            .build_with_transport(HyperTransport::builder().disable_proxy().build_http().unwrap());
        let (sender, events) = channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let mut stream = client.stream();
            while let Some(item) = stream.next().await {
                // It also reports connects, and disconnects as errors, and reconnects by itself.
                let Ok(SSE::Event(event)) = item else { continue };
                let id = event.id.unwrap_or_default();
                if sender.send(Seen::new(&event.event_type, &event.data, &id)).is_err() {
                    return;
                }
            }
        });
        Self { events, _runtime: runtime }
    }
}

impl SseClient for CrateClient {
    fn next(&mut self) -> Seen {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// It picks a delay from the upper half, so that not all clients return at once.
    fn least_absence(&self, told: Duration) -> Duration {
        told / 2
    }
}

#[test]
fn it_sees_each_print_and_the_state_of_the_feed_and_resumes_after_a_cut() {
    let mut world = World::start();
    let mut client = story::sees_each_print(&mut world, CrateClient::start);
    story::hears_of_the_feed(&mut world, &mut client);
    story::resumes(&mut world, &mut client);
}

#[test]
fn it_hears_goodbye_and_comes_back_to_another_server() {
    let mut world = World::start();
    let mut client = story::sees_each_print(&mut world, CrateClient::start);
    story::comes_back_to_another_server(&mut world, &mut client);
}
