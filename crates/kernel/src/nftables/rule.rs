//! Rules, and the expressions that they are made of.

use std::net::{IpAddr, SocketAddr};

use super::{Family, OBJECT_COUNTER, OBJECT_TIMEOUT, Register, Set, Verdict};
use crate::netlink::Attributes;

/// A rule being written: its expressions in the order in which they are evaluated.
pub(crate) struct Rule<'a, 'b>(pub(super) &'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nest(1, |a| {
            a.string(1, name);
            a.nest(2, data);
        });
    }

    /// Goes on only for packets of a family.
    pub(crate) fn family_is(&mut self, family: Family) {
        const NFPROTO: u32 = 15;
        let register = Register::new(0);
        self.meta(NFPROTO, register);
        self.compare(register, Comparison::Equal, &[family.number()]);
    }

    /// Goes on only for packets of a protocol.
    pub(crate) fn protocol_is(&mut self, protocol: u8) {
        let register = Register::new(0);
        self.load_protocol(register);
        self.compare(register, Comparison::Equal, &[protocol]);
    }

    /// Goes on only for TCP segments that don't open a connection: all but a plain SYN.
    pub(crate) fn opens_no_connection(&mut self) {
        const FLAGS_OFFSET: u32 = 13;
        const FIN_SYN_RST_ACK: u8 = 0x17;
        const SYN: u8 = 0x02;
        let register = Register::new(0);
        self.payload(Base::Transport, FLAGS_OFFSET, 1, register);
        self.mask(register, &[FIN_SYN_RST_ACK]);
        self.compare(register, Comparison::Unequal, &[SYN]);
    }

    /// Goes on only for packets whose destination was translated.
    pub(crate) fn destination_is_translated(&mut self) {
        const STATUS: u32 = 2;
        // IPS_DST_NAT, in the host's byte order
        const TRANSLATED: u32 = 1 << 5;
        let register = Register::new(0);
        self.expression("ct", |a| {
            a.number(1, register.0);
            a.number(2, STATUS);
        });
        self.mask(register, &TRANSLATED.to_ne_bytes());
        self.compare(register, Comparison::Unequal, &[0; 4]);
    }

    /// Goes on only for packets that don't leave by the loopback interface.
    pub(crate) fn leaves_host(&mut self) {
        const OUTGOING_TYPE: u32 = 9;
        // ARPHRD_LOOPBACK, in the host's byte order
        const LOOPBACK: u16 = 772;
        let register = Register::new(0);
        self.meta(OUTGOING_TYPE, register);
        self.compare(register, Comparison::Unequal, &LOOPBACK.to_ne_bytes());
    }

    /// Loads protocol, destination and port of the packet.
    pub(crate) fn load_local(&mut self, family: Family, to: Register) {
        self.load_protocol(to);
        let (_, destination) = family.offsets();
        self.payload(Base::Network, destination, family.length(), to.after(4));
        self.payload(Base::Transport, 2, 2, to.after(4 + family.length()));
    }

    /// Loads what the client wrote to: protocol, address and port before they were translated.
    pub(crate) fn load_original_local(&mut self, family: Family, to: Register) {
        const PROTOCOL: u32 = 10;
        const PORT: u32 = 12;
        let address = match family {
            Family::V4 => 20,
            Family::V6 => 22,
        };
        let registers =
            [(PROTOCOL, to), (address, to.after(4)), (PORT, to.after(4 + family.length()))];
        for (key, register) in registers {
            self.expression("ct", |a| {
                a.number(1, register.0);
                a.number(2, key);
                // The original direction.
                a.bytes(3, &[0]);
            });
        }
    }

    /// Loads source, its port, destination and its port of the packet.
    pub(crate) fn load_flow(&mut self, family: Family, to: Register) {
        let (source, destination) = family.offsets();
        let half = 4 + family.length();
        self.payload(Base::Network, source, family.length(), to);
        self.payload(Base::Transport, 0, 2, to.after(family.length()));
        self.payload(Base::Network, destination, family.length(), to.after(half));
        self.payload(Base::Transport, 2, 2, to.after(half + family.length()));
    }

    /// Goes on only if what is loaded is in the set.
    pub(crate) fn is_in(&mut self, set: &str, from: Register) {
        self.expression("lookup", |a| {
            a.string(1, set);
            a.number(2, from.0);
        });
    }

    /// Does what the map says of what is loaded; goes on if it says nothing.
    pub(crate) fn verdict_of(&mut self, map: &str, from: Register) {
        self.expression("lookup", |a| {
            a.string(1, map);
            a.number(2, from.0);
            a.number(3, 0);
        });
    }

    /// Loads what a map of this transaction has for what is loaded.
    pub(crate) fn value_of(&mut self, map: Set<'_>, from: Register, to: Register) {
        self.expression("lookup", |a| {
            a.string(1, map.name);
            a.number(2, from.0);
            a.number(3, to.0);
            a.number(4, map.id);
        });
    }

    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.expression("immediate", |a| {
            a.number(1, 0);
            verdict.write(a, 2);
        });
    }

    /// Loads numbers below `modulus` in turn.
    pub(crate) fn next_number(&mut self, modulus: u32, to: Register) {
        self.number_generator(modulus, 0, to);
    }

    /// Goes on with a probability of `share` in `of`.
    pub(crate) fn by_chance(&mut self, share: u32, of: u32) {
        let register = Register::new(0);
        self.number_generator(of, 1, register);
        // Numbers are compared byte by byte.
        self.expression("byteorder", |a| {
            a.number(1, register.0);
            a.number(2, register.0);
            a.number(3, 1);
            a.number(4, 4);
            a.number(5, 4);
        });
        self.compare(register, Comparison::Less, &share.to_be_bytes());
    }

    fn number_generator(&mut self, modulus: u32, kind: u32, to: Register) {
        self.expression("numgen", |a| {
            a.number(1, to.0);
            a.number(2, modulus);
            a.number(3, kind);
        });
    }

    /// Loads address and port.
    pub(crate) fn load_endpoint(&mut self, endpoint: SocketAddr, to: Register) {
        match endpoint.ip() {
            IpAddr::V4(ip) => self.load(&ip.octets(), to),
            IpAddr::V6(ip) => self.load(&ip.octets(), to),
        }
        let family = Family::of(endpoint.ip());
        self.load(&endpoint.port().to_be_bytes(), to.after(family.length()));
    }

    fn load(&mut self, value: &[u8], to: Register) {
        self.expression("immediate", |a| {
            a.number(1, to.0);
            a.nest(2, |a| a.bytes(1, value));
        });
    }

    /// Sends the flow to the address and port that are loaded.
    pub(crate) fn translate_destination(&mut self, family: Family, from: Register) {
        const DESTINATION: u32 = 1;
        self.expression("nat", |a| {
            a.number(1, DESTINATION);
            a.number(2, u32::from(family.number()));
            a.number(3, from.0);
            a.number(5, from.after(family.length()).0);
        });
    }

    /// Has the flow come from an address of this host.
    pub(crate) fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    /// Answers a TCP segment with a reset.
    pub(crate) fn reset(&mut self) {
        self.expression("reject", |a| a.number(1, 1));
    }

    /// Counts, or sets the timeouts, as the object of this name does.
    pub(crate) fn counter(&mut self, name: &str) {
        self.object(OBJECT_COUNTER, name);
    }

    /// Gives the flow the timeouts of this name.
    pub(crate) fn udp_timeout(&mut self, name: &str) {
        self.object(OBJECT_TIMEOUT, name);
    }

    fn object(&mut self, kind: u32, name: &str) {
        self.expression("objref", |a| {
            a.number(1, kind);
            a.string(2, name);
        });
    }

    /// Has conntrack tell of these events of the flow (a mask of `ip_conntrack_events`).
    pub(crate) fn tell_events(&mut self, mask: u32) {
        const EVENT_MASK: u32 = 18;
        let register = Register::new(0);
        self.load(&mask.to_ne_bytes(), register);
        self.expression("ct", |a| {
            a.number(2, EVENT_MASK);
            a.number(4, register.0);
        });
    }

    fn load_protocol(&mut self, to: Register) {
        const L4PROTO: u32 = 16;
        self.meta(L4PROTO, to);
    }

    fn meta(&mut self, key: u32, to: Register) {
        self.expression("meta", |a| {
            a.number(1, to.0);
            a.number(2, key);
        });
    }

    fn payload(&mut self, base: Base, offset: u32, length: u32, to: Register) {
        self.expression("payload", |a| {
            a.number(1, to.0);
            a.number(2, base as u32);
            a.number(3, offset);
            a.number(4, length);
        });
    }

    fn mask(&mut self, register: Register, mask: &[u8]) {
        self.expression("bitwise", |a| {
            a.number(1, register.0);
            a.number(2, register.0);
            a.number(3, mask.len() as u32);
            a.nest(4, |a| a.bytes(1, mask));
            a.nest(5, |a| a.bytes(1, &[0; 4][..mask.len()]));
        });
    }

    fn compare(&mut self, register: Register, how: Comparison, with: &[u8]) {
        self.expression("cmp", |a| {
            a.number(1, register.0);
            a.number(2, how as u32);
            a.nest(3, |a| a.bytes(1, with));
        });
    }
}

/// Where an offset into a packet begins.
#[derive(Clone, Copy)]
enum Base {
    Network = 1,
    Transport = 2,
}

#[derive(Clone, Copy)]
enum Comparison {
    Equal = 0,
    Unequal = 1,
    Less = 2,
}
