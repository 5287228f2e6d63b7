//! Where peers are measured, in turn.

use std::thread;

use crate::{
    Args, Result,
    backend::Backend,
    certificates::Certificates,
    gateway::Gateway,
    interrupt,
    load::{Amount, Sample, Stage},
    mode::Mode,
    network::Network,
    peer::Peer,
    report::{self, Entrant},
    say,
};

/// How often as many rounds as were asked for may be added, until two versions can be told apart.
const EXTENSIONS: usize = 3;

/// Where a peer is measured.
struct Lane {
    peer: Peer,
    /// Whether the peer has another lane already.
    again: bool,
    backend: Backend,
    network: Network,
}

/// All lanes.
pub(crate) struct Lanes(Vec<Lane>);

impl Lanes {
    /// One for each peer, and a second one for whoever shows the noise of a mode.
    pub(crate) fn new(peers: &[Peer], modes: &[Mode]) -> Result<Self> {
        let mut entrants: Vec<_> = peers.iter().map(|peer| (*peer, false)).collect();
        for twice in modes.iter().filter_map(|mode| twice(peers, *mode)) {
            if !entrants.contains(&(twice, true)) {
                entrants.push((twice, true));
            }
        }
        entrants
            .into_iter()
            .map(|(peer, again)| Lane::new(peer, again))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Tells now, and not after the first mode, what can't be run.
    pub(crate) fn try_out(&self, args: &Args, certificates: &Certificates) -> Result<()> {
        for lane in &self.0 {
            if let Some(mode) = args.modes.iter().find(|mode| lane.peer.does(**mode)) {
                drop(lane.start(*mode, args, certificates)?);
            }
        }
        Ok(())
    }

    /// Has every peer do the same, round by round, each round in another order.
    ///
    /// # Errors
    /// If a signal asks to end.
    pub(crate) fn measure(
        &self,
        mode: Mode,
        args: &Args,
        certificates: &Certificates,
    ) -> Result<Vec<Entrant>> {
        let lanes = self.of(mode);
        let start = |lane: &Lane| lane.start(mode, args, certificates);
        // Memory that was used once may stay: for idle sessions each process is a new one, and alone.
        let lasting: Vec<Option<Result<Gateway>>> = thread::scope(|scope| {
            let start = |lane| (!mode.is_idle()).then(|| scope.spawn(move || start(lane)));
            let starting: Vec<_> = lanes.iter().copied().map(start).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            starting.into_iter().map(|thread| thread.map(join)).collect()
        });
        let mut entrants: Vec<Entrant> =
            lanes.iter().map(|lane| Entrant::new(lane.peer, lane.again)).collect();
        let rounds = |wanted: &[usize], rounds: usize, entrants: &mut Vec<Entrant>| {
            for round in 0..rounds {
                say(&format!("{mode}, round {} of {rounds}", round + 1));
                for index in order(wanted, round) {
                    if entrants[index].fault.is_some() {
                        continue;
                    }
                    let sample = match &lasting[index] {
                        Some(Ok(gateway)) => lanes[index].sample(gateway, mode, args.amount(mode)),
                        Some(Err(error)) => Err(error.clone()),
                        None => start(lanes[index]).and_then(|gateway| {
                            lanes[index].sample(&gateway, mode, args.amount(mode))
                        }),
                    };
                    interrupt::check()?;
                    match sample {
                        Ok(sample) => entrants[index].samples.push(sample),
                        Err(error) => entrants[index].fault = Some(error),
                    }
                }
            }
            Ok::<_, String>(())
        };
        let all: Vec<_> = (0..lanes.len()).collect();
        rounds(&all, args.rounds(mode), &mut entrants)?;
        for _ in 0..EXTENSIONS {
            let blurred = report::blurred(mode, &entrants);
            if blurred.is_empty() {
                break;
            }
            rounds(&blurred, args.rounds(mode), &mut entrants)?;
        }
        Ok(entrants)
    }

    /// Those that do that.
    fn of(&self, mode: Mode) -> Vec<&Lane> {
        let once: Vec<Peer> =
            self.0.iter().filter(|lane| !lane.again).map(|lane| lane.peer).collect();
        let twice = twice(&once, mode);
        let does = |lane: &&Lane| lane.peer.does(mode) && (!lane.again || twice == Some(lane.peer));
        self.0.iter().filter(does).collect()
    }
}

/// In which order lanes have their turns: each round begins with another, and every second one goes the
/// other way, so that nobody always follows the same.
fn order(lanes: &[usize], round: usize) -> Vec<usize> {
    let mut order = lanes.to_vec();
    order.rotate_left(round % lanes.len().max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// The peer that runs a second time.
fn twice(peers: &[Peer], mode: Mode) -> Option<Peer> {
    peers.iter().copied().find(|peer| peer.is_rival() && peer.does(mode))
}

impl Lane {
    fn new(peer: Peer, again: bool) -> Result<Self> {
        let network = Network::new()?;
        Ok(Self { peer, again, backend: Backend::start(&network)?, network })
    }

    fn start(&self, mode: Mode, args: &Args, certificates: &Certificates) -> Result<Gateway> {
        Gateway::start(self.peer, mode, &args.programs, certificates, &self.network)
    }

    fn sample(&self, gateway: &Gateway, mode: Mode, amount: Amount) -> Result<Sample> {
        let target = self.peer.target();
        let stage = Stage { network: &self.network, backend: &self.backend, gateway, target };
        stage.sample(mode, amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_in_another_order_each_round() {
        let orders: Vec<_> = (0..4).map(|round| order(&[4, 5, 6], round)).collect();
        assert_eq!(orders, [[4, 5, 6], [4, 6, 5], [6, 4, 5], [6, 5, 4]]);
        assert!(order(&[], 3).is_empty());
    }

    #[test]
    fn the_first_proxy_that_does_it_runs_twice() {
        let peers = Peer::usual();
        assert_eq!(twice(&peers, Mode::TcpRr), Some(Peer::HAProxy));
        assert_eq!(twice(&peers, Mode::UdpRr), Some(Peer::Nginx));
        assert_eq!(twice(&[Peer::Direct, Peer::L4way], Mode::TcpRr), None);
    }
}
