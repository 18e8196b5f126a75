//! What fails.

use super::fault::Fault;
use super::world::World;
use crate::simulation::invariant::Checked;
use crate::simulation::trace::say;

/// Lengths of faults, in microseconds: shorter than the leases, about as long, and longer.
const LENGTHS_MICROS: [u64; 5] = [50_000, 400_000, 1_500_000, 3_000_000, 6_000_000];

impl World<'_> {
    /// Something fails.
    pub(super) fn fail(&mut self) -> Checked {
        let Some(&fault) = self.dice.pick(&self.profile.faults) else { return Ok(()) };
        let place = self.dice.below(self.machines.len());
        let length = LENGTHS_MICROS[self.dice.below(LENGTHS_MICROS.len())];
        let until = self.micros + length;
        say!(self.trace, "{fault:?} of machine {place} for {} ms", length / 1_000);
        self.trace.count(match fault {
            Fault::Kill => "nodes killed",
            Fault::Freeze => "nodes frozen",
            Fault::Drain => "nodes asked to stop",
            Fault::CutPostgres => "nodes cut off from Postgres",
            Fault::CutRedis => "nodes cut off from Redis",
            Fault::CutExchange => "nodes cut off from the exchange",
            Fault::PostgresAway => "outages of Postgres",
            Fault::FailOver => "fail-overs of Postgres",
            Fault::RedisRestart => "restarts of Redis",
            Fault::RedisTrims => "losses of old lines in Redis",
            Fault::Stall => "stalls of everybody",
        });
        let machine = &mut self.machines[place];
        match fault {
            Fault::Kill => {
                machine.start_at = until;
                machine.frozen_until = 0;
                self.end_process(place);
            }
            Fault::Freeze => machine.frozen_until = until,
            Fault::Drain => {
                if let Some(process) = &mut machine.process {
                    process.mover.is_draining = true;
                }
            }
            Fault::CutPostgres => {
                machine.without_postgres_until = until;
                machine.cuts += 1;
                self.postgres.cut(place, &mut self.dice);
            }
            Fault::CutRedis => {
                machine.without_redis_until = until;
                machine.redis_cuts += 1;
            }
            Fault::CutExchange => machine.without_exchange_until = until,
            Fault::PostgresAway => {
                self.postgres.away_until = until;
                self.fail_over()?;
            }
            Fault::FailOver => self.fail_over()?,
            Fault::RedisRestart => self.redis.restart(&mut self.dice),
            Fault::RedisTrims => self.redis.trim(&mut self.dice),
            Fault::Stall => self.pass_time(length.min(3_000_000)),
        }
        Ok(())
    }

    /// Postgres is another server from now on, with everything that was committed.
    fn fail_over(&mut self) -> Checked {
        for question in self.postgres.fail_over(&mut self.dice) {
            // Committed, and nobody hears of it.
            self.carry_out(question)?;
        }
        Ok(())
    }
}
