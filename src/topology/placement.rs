use rustix::thread::{CpuSet, sched_getaffinity};

/// Which cores the pinned threads get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// The core of each shard.
    pub shards: Vec<usize>,
    /// The core of the orders thread, where there is one left for it.
    pub orders: Option<usize>,
}

/// The cores that this process may use, in their order.
pub(super) fn allowed_cores() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
}

/// Gives each shard a core of its own and `orders` the next one. With `wanted` 0 there are as many
/// shards as leave one core to everything else.
///
/// # Errors
/// How many cores there are, when more shards are wanted.
pub(super) fn place(cores: &[usize], wanted: usize) -> Result<Placement, usize> {
    let shards = if wanted == 0 { cores.len().saturating_sub(1).max(1) } else { wanted };
    match cores.get(..shards) {
        Some(own) => Ok(Placement { shards: own.to_vec(), orders: cores.get(shards).copied() }),
        None => Err(cores.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_and_orders_get_cores_of_their_own() {
        let placed = |cores: &[usize], wanted| place(cores, wanted);
        let expect = |shards: &[usize], orders| Ok(Placement { shards: shards.into(), orders });
        assert_eq!(placed(&[0, 1, 2, 3], 0), expect(&[0, 1, 2], Some(3)));
        assert_eq!(placed(&[4, 6], 1), expect(&[4], Some(6)));
        assert_eq!(placed(&[4, 6], 2), expect(&[4, 6], None));
        assert_eq!(placed(&[5], 0), expect(&[5], None));
        assert_eq!(placed(&[0, 1], 3), Err(2));
    }

    #[test]
    fn this_process_may_use_a_core() {
        assert!(!allowed_cores().is_empty());
    }
}
