use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::IpAddr,
    time::Duration,
};

/// Which sessions end where even those that were used have to make room, the first of them first: again
/// and again the one that has been silent longest, of the client that has most sessions. Each has been
/// silent for `silence` at least. They are `most` at most.
///
/// A client is an IPv4 address, or 64 bits of an IPv6 one, which is what a host gets (RFC 6177).
pub fn longest_silent_of_most<T>(
    sessions: impl IntoIterator<Item = (T, IpAddr, Duration)>,
    silence: Duration,
    most: usize,
) -> Vec<T> {
    let mut clients = HashMap::<u64, Vec<(Duration, Option<T>)>>::new();
    for (session, client, silent) in sessions {
        clients.entry(network(client)).or_default().push((silent, Some(session)));
    }
    let mut clients: Vec<_> = clients.into_values().collect();
    clients.iter_mut().for_each(|sessions| sessions.sort_by_key(|(silent, _)| Reverse(*silent)));
    // By how many sessions a client has left; of two with as many, the one that was silent longer.
    let entry = |index: usize, next: usize| {
        let sessions = &clients[index];
        let silent = sessions.get(next)?.0;
        (silent >= silence).then_some((sessions.len() - next, silent, Reverse(index)))
    };
    let mut heap: BinaryHeap<_> = (0..clients.len()).filter_map(|index| entry(index, 0)).collect();
    let mut order = Vec::new();
    while order.len() < most
        && let Some((left, _, Reverse(index))) = heap.pop()
    {
        let next = clients[index].len() - left;
        order.push((index, next));
        heap.extend(entry(index, next + 1));
    }
    order.into_iter().filter_map(|(index, at)| clients[index][at].1.take()).collect()
}

/// What tells clients apart, as a number. An IPv4 address is outside of what IPv6 has for the world
/// (RFC 4291, section 2.4: `::/8`).
fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(30);

    fn chosen(sessions: &[(&str, u64)], most: usize) -> Vec<usize> {
        let sessions = sessions.iter().enumerate().map(|(index, (client, seconds))| {
            (index, client.parse().expect("an address"), Duration::from_secs(*seconds))
        });
        longest_silent_of_most(sessions, SILENCE, most)
    }

    #[test]
    fn the_client_with_most_gives_its_longest_silent_session() {
        let sessions = [("1.1.1.1", 99), ("2.2.2.2", 31), ("2.2.2.2", 50), ("2.2.2.2", 5)];
        assert_eq!(chosen(&sessions, 9), [2, 1, 0]);
        assert_eq!(chosen(&sessions, 1), [2]);
        assert_eq!(chosen(&[("1.1.1.1", 29)], 9), [0; 0]);
    }

    #[test]
    fn a_client_of_ipv6_is_its_network() {
        let sessions =
            [("2001:db8::1", 40), ("2001:db8::2", 41), ("2001:db8:0:1::1", 99), ("::1", 98)];
        assert_eq!(chosen(&sessions, 1), [1]);
        assert_eq!(chosen(&[("::ffff:1.1.1.1", 40), ("2.2.2.2", 99), ("1.1.1.1", 50)], 1), [2]);
    }

    proptest! {
        /// One after the other, by the definition.
        #[test]
        fn the_order_is_that_of_the_definition(
            sessions in prop::collection::vec((0..4_u8, 0..60_u64), 0..40),
            most in 0..50_usize,
        ) {
            let address = |client: u8| IpAddr::from([10, 0, 0, client]);
            let given = sessions.iter().enumerate();
            let given = given.map(|(id, (client, s))| (id, address(*client), Duration::from_secs(*s)));
            let chosen = longest_silent_of_most(given, SILENCE, most);
            let mut left: Vec<_> = sessions.iter().enumerate().collect();
            for id in &chosen {
                let count = |client| left.iter().filter(|(_, (of, _))| *of == client).count();
                let silent = |client| {
                    left.iter().filter(|(_, (of, _))| *of == client).map(|(_, (_, s))| *s).max()
                };
                let (client, seconds) = sessions[*id];
                prop_assert!(seconds >= 30);
                prop_assert_eq!(silent(client), Some(seconds));
                for other in 0..4 {
                    let may = silent(other).is_some_and(|seconds| seconds >= 30);
                    prop_assert!(!may || count(other) <= count(client));
                }
                left.retain(|(other, _)| other != id);
            }
            let rest = left.iter().any(|(_, (_, seconds))| *seconds >= 30);
            prop_assert!(chosen.len() == most || (!rest && chosen.len() < most));
        }
    }
}
