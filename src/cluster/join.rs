//! Whether a process may be a node: decided from what Postgres has of the nodes, without I/O.

use std::time::Duration;

use super::identity::NodeIdentity;
use super::{NodeError, NodeId, host_of};

/// A row of `nodes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeRow {
    pub(super) node_id: NodeId,
    pub(super) epoch: i64,
    pub(super) log_id: i64,
    /// The place of its data directory, as text.
    pub(super) home: String,
    /// When its lease ends, in microseconds since 1970 by the clock of Postgres.
    pub(super) lease_until_micros: i64,
    pub(super) lease_left: Duration,
}

/// The decision about a process that wants to be a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the node from now on.
    Join,
    /// Another process may be running: it shows within this time, by renewing its lease.
    Wait(Duration),
}

impl NodeRow {
    fn host(&self) -> String {
        host_of(&self.home)
    }

    /// Whether another process may be running with this row. The process before ours in the same
    /// directory does not: it has given up the lock of the log.
    fn may_run_elsewhere(&self, us: &NodeIdentity) -> bool {
        !self.lease_left.is_zero() && self.home != us.home.to_string()
    }
}

/// Decides by the rows of nodes with our number or our log. `before`: the rows at the first look, if
/// this is a later one.
///
/// # Errors
/// Another process is our node, or runs with our log: its lease was renewed since the first look.
pub(super) fn judge(
    us: &NodeIdentity,
    rows: &[NodeRow],
    before: Option<&[NodeRow]>,
) -> Result<Verdict, NodeError> {
    let mut longest = Duration::ZERO;
    for row in rows.iter().filter(|row| row.may_run_elsewhere(us)) {
        let first = before.and_then(|rows| rows.iter().find(|old| old.node_id == row.node_id));
        let is_renewed =
            first.is_some_and(|first| row.lease_until_micros != first.lease_until_micros);
        if is_renewed {
            let (node_id, host) = (row.node_id, row.host());
            return Err(match row.log_id == us.log_id {
                true => NodeError::Copied { node_id, host },
                false => NodeError::Taken { node_id, host },
            });
        }
        longest = longest.max(row.lease_left);
    }
    Ok(if longest.is_zero() { Verdict::Join } else { Verdict::Wait(longest) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Common;
    use crate::data_dir::{DataDir, DataHome};

    const SECOND: Duration = Duration::from_secs(1);

    fn us() -> NodeIdentity {
        let here = DataHome::of(&DataDir::from(std::env::temp_dir())).unwrap();
        let common = Common::default();
        NodeIdentity { node_id: 3, log_id: 7, home: here, peer_address: None, common }
    }

    fn row(home: &str, lease_left: Duration) -> NodeRow {
        let home = home.to_owned();
        NodeRow { node_id: 3, epoch: 5, log_id: 7, home, lease_until_micros: 10, lease_left }
    }

    fn first_look(rows: &[NodeRow]) -> Verdict {
        judge(&us(), rows, None).unwrap()
    }

    #[test]
    fn a_process_joins_where_nobody_else_can_be_running() {
        let ours = us().home.to_string();
        assert_eq!(first_look(&[]), Verdict::Join);
        assert_eq!(first_look(&[row(&ours, 4 * SECOND)]), Verdict::Join, "after a crash, at once");
        assert_eq!(first_look(&[row("m 1 elsewhere", Duration::ZERO)]), Verdict::Join);
    }

    #[test]
    fn a_live_lease_elsewhere_is_waited_for_and_refused_once_it_is_renewed() {
        let first = [row("m 1 elsewhere", 4 * SECOND)];
        assert_eq!(first_look(&first), Verdict::Wait(4 * SECOND));
        let later = |left| judge(&us(), &[row("m 1 elsewhere", left)], Some(&first));
        let renewed = NodeRow { lease_until_micros: 11, ..row("m 1 elsewhere", 4 * SECOND) };
        assert_eq!(later(3 * SECOND).unwrap(), Verdict::Wait(3 * SECOND), "not renewed");
        assert_eq!(later(Duration::ZERO).unwrap(), Verdict::Join);
        let refused = judge(&us(), std::slice::from_ref(&renewed), Some(&first)).unwrap_err();
        assert!(matches!(&refused, NodeError::Copied { node_id: 3, host } if host == "elsewhere"));
        let stranger = NodeRow { log_id: 8, ..renewed };
        let refused = judge(&us(), &[stranger], Some(&first)).unwrap_err();
        assert!(matches!(refused, NodeError::Taken { node_id: 3, .. }), "{refused}");
    }
}
