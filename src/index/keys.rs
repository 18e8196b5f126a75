//! Encodes keys and small values. Part of the format.

use super::IndexError;
use super::store::Bytes;
use crate::types::{ClientOrderId, ExecutionId, ExternalOrderId, OrderId, UserId, UserPartition};

/// Follows the user id in a key. User ids have no control characters, so the keys of one user never
/// fall among those of another whose name begins with the same letters.
const END_OF_USER: u8 = 0;
const ORDER_ID_BYTES: usize = 16;

pub(super) fn order_id_bytes(order_id: OrderId) -> [u8; ORDER_ID_BYTES] {
    order_id.as_u128().to_be_bytes()
}

pub(super) fn order_id(bytes: &[u8]) -> Result<OrderId, IndexError> {
    let bytes = bytes.try_into().map_err(|_| IndexError::Unreadable { what: "an order id" })?;
    Ok(OrderId::from_u128(u128::from_be_bytes(bytes)))
}

pub(super) fn open(order_id: OrderId) -> [u8; ORDER_ID_BYTES + 1] {
    let mut key = [0; ORDER_ID_BYTES + 1];
    let (first, rest) = key.split_at_mut(1);
    first.fill(order_id.partition().get());
    rest.copy_from_slice(&order_id_bytes(order_id));
    key
}

/// The range of a partition's open orders, and of its accounts.
pub(super) fn partition_range(partition: UserPartition) -> ([u8; 1], [u8; 1]) {
    ([partition.get()], [partition.get() + 1])
}

/// Key of the account of a user.
pub(super) fn account(user: &UserId) -> Bytes {
    [&[user.partition().get()][..], user.as_str().as_bytes()].concat().into()
}

/// The user in the key of an account.
pub(super) fn user_of_account(key: &[u8]) -> Result<UserId, IndexError> {
    let name = key.get(1..).and_then(|name| std::str::from_utf8(name).ok());
    let user = name.and_then(|name| UserId::new(name).ok());
    user.filter(|user| key.first() == Some(&user.partition().get()))
        .ok_or(IndexError::Unreadable { what: "the user of an account" })
}

/// Key of an ended order of a user.
pub(super) fn history(user: &UserId, order_id: OrderId) -> Bytes {
    user_key(user, &order_id_bytes(order_id))
}

/// The order id that a key of `open`, `ended` or `history` ends with.
pub(super) fn order_id_at_end(key: &[u8]) -> Result<OrderId, IndexError> {
    order_id(key.last_chunk::<ORDER_ID_BYTES>().map_or(key, |id| id))
}

/// The range of a user's ended orders from one order, up to but without another.
pub(super) fn history_range(
    user: &UserId,
    (from, to): (Option<OrderId>, Option<OrderId>),
) -> (Bytes, Bytes) {
    let from = from.map_or_else(|| user_key(user, &[]), |order_id| history(user, order_id));
    let to = to.map_or_else(|| end_of_user(user), |order_id| history(user, order_id));
    (from, to)
}

/// The first key past all keys of a user.
fn end_of_user(user: &UserId) -> Bytes {
    [user.as_str().as_bytes(), &[END_OF_USER + 1]].concat().into()
}

/// Key of a change of a user's order.
pub(super) fn change(user: &UserId, lsn: u64) -> Bytes {
    user_key(user, &lsn.to_be_bytes())
}

/// The LSN in the key of a change.
pub(super) fn lsn_of_change(key: &[u8]) -> Result<u64, IndexError> {
    let lsn = key.last_chunk().ok_or(IndexError::Unreadable { what: "a change" })?;
    Ok(u64::from_be_bytes(*lsn))
}

/// The range of a user's changes after an LSN.
pub(super) fn change_range(user: &UserId, after: u64) -> (Bytes, Bytes) {
    // Saturating: a client's cursor may be any number.
    (change(user, after.saturating_add(1)), end_of_user(user))
}

/// Key of a chunk of changed orders, by the LSN of its first change.
pub(super) fn chunk(first_lsn: u64) -> [u8; 8] {
    first_lsn.to_be_bytes()
}

/// Key of a client order id.
pub(super) fn client_key(user: &UserId, key: &ClientOrderId) -> Bytes {
    user_key(user, key.as_str().as_bytes())
}

/// Key of a cash movement.
pub(super) fn cash(user: &UserId, id: &str) -> Bytes {
    user_key(user, id.as_bytes())
}

pub(super) fn external(id: &ExternalOrderId) -> &[u8] {
    id.as_str().as_bytes()
}

/// Key of an execution of an order.
pub(super) fn execution(order_id: OrderId, id: &ExecutionId) -> Bytes {
    [&order_id_bytes(order_id), id.as_str().as_bytes()].concat().into()
}

/// The execution's id in its key.
pub(super) fn execution_id(key: &[u8]) -> Option<ExecutionId> {
    let (_, id) = key.split_at_checked(ORDER_ID_BYTES)?;
    ExecutionId::new(std::str::from_utf8(id).ok()?).ok()
}

/// The range of an order's executions, whose ids are of printable ASCII characters.
pub(super) fn execution_range(order_id: OrderId) -> (Bytes, Bytes) {
    let id = order_id_bytes(order_id);
    (id.into(), [&id[..], &[u8::MAX]].concat().into())
}

fn user_key(user: &UserId, rest: &[u8]) -> Bytes {
    [user.as_str().as_bytes(), &[END_OF_USER], rest].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_range_holds_exactly_their_orders() {
        let users = ["a", "a!", "aa", "b", "ä"].map(|name| UserId::new(name).unwrap());
        let ids: Vec<OrderId> = (0..4).map(|n| OrderId::from_u128(n << 100)).collect();
        for user in &users {
            let (from, to) = history_range(user, (None, None));
            let (second, before_last) = history_range(user, (Some(ids[1]), Some(ids[3])));
            for other in &users {
                for &id in &ids {
                    let key = history(other, id);
                    assert_eq!(order_id_at_end(&key).unwrap(), id);
                    assert_eq!(from <= key && key < to, user == other, "{user} {other}");
                    let is_before = user == other && id < ids[3];
                    assert_eq!(from <= key && key < before_last, is_before);
                    let is_between = is_before && id >= ids[1];
                    assert_eq!(second <= key && key < before_last, is_between);
                }
            }
        }
    }

    #[test]
    fn a_users_change_range_begins_after_its_record() {
        let users = ["a", "aa", "ä"].map(|name| UserId::new(name).unwrap());
        let (from, to) = change_range(&users[0], 255);
        for user in &users {
            for lsn in [0, 1, 255, 256, 1 << 40, u64::MAX] {
                let key = change(user, lsn);
                assert_eq!(lsn_of_change(&key).unwrap(), lsn);
                let is_wanted = *user == users[0] && lsn > 255;
                assert_eq!(from <= key && key < to, is_wanted, "{user} {lsn}");
            }
        }
        assert!(lsn_of_change(&[1; 7]).is_err());
    }

    #[test]
    fn ids_round_trip() {
        let id = OrderId::from_u128(u128::MAX - 5);
        assert_eq!(order_id(&order_id_bytes(id)).unwrap(), id);
        assert!(order_id(&[1; 15]).is_err());
        assert!(order_id_at_end(&[1; 15]).is_err());
    }

    #[test]
    fn partitions_do_not_overlap() {
        for number in 0..64 {
            let partition = UserPartition::new(number).unwrap();
            let (from, to) = partition_range(partition);
            let key = open(OrderId::new(5, 7, partition));
            assert!(from.as_slice() <= key.as_slice() && key.as_slice() < to.as_slice());
        }
    }
}
