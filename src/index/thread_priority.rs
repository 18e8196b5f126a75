//! The index may be late, and nobody waits for it: where cores are few, its threads let others go
//! first.

/// Nice value of the index's threads: a tenth of a core that somebody else wants as well. The peak
/// that is built for takes 9 % of one, and an index that is behind for minutes holds up new orders.
const NICENESS: i32 = 10;

/// Lets other threads of the machine go before this one, and before those that it starts.
pub(super) fn lower_priority() {
    // On Linux the nice value belongs to the thread (setpriority(2), notes). More patience is
    // always allowed.
    let set = rustix::process::setpriority_process(None, NICENESS);
    debug_assert!(set.is_ok(), "every thread may step back: {set:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_that_steps_back_takes_only_those_along_that_it_starts() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let stepped = thread::spawn(move || {
            lower_priority();
            (niceness(), thread::spawn(niceness).join().unwrap())
        });
        assert_eq!(stepped.join().unwrap(), (NICENESS, NICENESS));
        assert_eq!(niceness(), before);
    }
}
