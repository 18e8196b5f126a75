//! What analysts find in Postgres: terms, symbols and busts where they look for them, figures by trading day,
//! the orders that were open at a time, and a description of everything.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support::api::until;
use crate::support::postgres::{Database, Postgres, assert_records_agree, await_caught_up};
use crate::support::world::World;

/// The first row of a query, its values joined by spaces.
fn row(database: &Database, query: &str) -> String {
    let rows = database.sql(query);
    let values = rows[0].iter().map(|value| value.clone().unwrap_or_else(|| "null".to_owned()));
    values.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_orders_story_and_a_days_figures_are_there_to_be_asked() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let world = World::start(&["--postgres", &database.url]);
    let order = world.buy(10);
    world.venue.fill(&order, 90, 4);
    let busted = world.venue.fill(&order, 95, 3);
    world.await_filled(&order, 7);
    world.venue.bust(&busted);
    world.await_filled(&order, 4);
    await_caught_up(&world.server, world.data(), &database.url);
    let while_open = row(&database, "SELECT clock_timestamp()");
    world.venue.fill(&order, 90, 6);
    world.alice.await_status(&order, "filled");
    await_caught_up(&world.server, world.data(), &database.url);

    let events = format!("FROM analysis.order_events WHERE order_id = '{order}'");
    assert_eq!(
        row(
            &database,
            &format!(
                "SELECT symbol, side, time_in_force, limit_price_cents, num_shares {events} \
                 AND event = 'created'"
            )
        ),
        "SPY buy day 100 10"
    );
    let bust = "execution_id, execution_shares, execution_price_cents";
    assert_eq!(
        row(&database, &format!("SELECT {bust} {events} AND event = 'busted'")),
        format!("{busted} 3 95")
    );
    let symbols = "SELECT count(*) FROM executions WHERE symbol = 'SPY'";
    assert_eq!(database.number(symbols), 3);
    let found = format!("SELECT side, is_open FROM analysis.orders WHERE order_id = '{order}'");
    assert_eq!(row(&database, &found), "buy f");
    let found = format!("SELECT count(*) FROM analysis.external_orders WHERE order_id = '{order}'");
    assert_eq!(database.number(&found), 1);

    let today = "WHERE trading_day = analysis.trading_day(now())";
    assert_eq!(
        row(
            &database,
            &format!(
                "SELECT symbol, executions, num_shares, value_cents FROM analysis.daily_volume {today}"
            )
        ),
        "SPY 2 10 900"
    );
    assert_eq!(
        row(
            &database,
            &format!(
                "SELECT orders, filled_orders, fill_ratio FROM analysis.fill_ratio {today} \
                 AND symbol = 'SPY'"
            )
        ),
        "1 1 1.00000000000000000000"
    );
    let latency = "SELECT accepted_orders > 0, p50 <= longest, p99 > interval '0' FROM analysis.order_latency";
    assert_eq!(row(&database, &format!("{latency} {today}")), "t t t");

    database.sql("CREATE ROLE ann LOGIN IN ROLE longbow_reader");
    let ann = Database { url: database.url.replace("longbow@", "ann@") };
    let open = format!(
        "SELECT order_id, filled_shares, status FROM analysis.open_orders_at('{while_open}')"
    );
    assert_eq!(
        row(&ann, &format!("{open} WHERE symbol = 'SPY'")),
        format!("{order} 4 partially_filled")
    );
    let now = "SELECT count(*) FROM analysis.open_orders_at(now()) WHERE symbol = 'SPY'";
    assert_eq!(ann.number(now), 0);
    let data = world.data().to_owned();
    assert_records_agree(world.server, &data, &database.url);
}

#[test]
fn a_fill_that_leaves_its_order_open_is_a_hot_update() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let world = World::start(&["--postgres", &database.url]);
    let order = world.buy(10);
    // Its row is there before the first of them.
    await_caught_up(&world.server, world.data(), &database.url);
    for shares in 1..=3 {
        world.venue.fill(&order, 90, 1);
        world.await_filled(&order, shares);
        await_caught_up(&world.server, world.data(), &database.url);
    }
    // Accepted after its row was made, perhaps, and filled three times.
    let updates = "SELECT sum(n_tup_hot_upd), sum(n_tup_upd) FROM pg_stat_user_tables \
        WHERE relname LIKE 'orders_p%'";
    until("all fills to be HOT updates", || {
        let rows = database.sql(updates);
        let [hot, all] = [0, 1].map(|column: usize| rows[0][column].clone().unwrap());
        let [hot, all] = [hot, all].map(|count| count.parse::<u64>().unwrap());
        (all >= 3 && hot >= 3 && all - hot <= 1).then_some(())
    });
}

#[test]
fn every_table_view_column_and_function_is_described() {
    let postgres = Postgres::start();
    let lacking = postgres.database().sql(
        "SELECT c.oid::regclass || coalesce('.' || attname, '') \
         FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         LEFT JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped \
         WHERE nspname IN ('public', 'analysis') AND relkind IN ('r', 'p', 'v') AND NOT relispartition \
            AND relname <> 'refinery_schema_history' \
            AND (obj_description(c.oid, 'pg_class') IS NULL \
                OR attnum IS NOT NULL AND col_description(c.oid, attnum) IS NULL) \
         UNION ALL SELECT oid::regprocedure::text FROM pg_proc \
         WHERE pronamespace = 'analysis'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL",
    );
    assert!(lacking.is_empty(), "{lacking:?}");
}
