//! Runs the faults of orders that happen later, at their times.

use std::future::pending;
use std::sync::Arc;

use tokio::time::sleep_until;

use super::state::Shared;

/// Carries out pending actions for as long as the exchange runs.
pub(super) async fn run_pending_actions(shared: Arc<Shared>) {
    let actions = &shared.pending_actions;
    loop {
        let due = actions.next_due();
        let until_due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = until_due => {}
            () = actions.added() => continue,
        }
        let carry_out = |state: &mut super::state::State, now| {
            actions.carry_out(&shared.faults, &mut state.venue, now);
        };
        shared.writable().await;
        let _published_later = shared.change(carry_out);
    }
}
